package dlqtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

const refused, unknownUser = "SINK_UNAVAILABLE: HTTP 503", "SINK_UNAVAILABLE: SMTP 550 unknown user"

// failed returns a dead letter of a cause.
func failed(sink, id string, reason dlq.Reason, lastError string) dlq.Item {
	it := withReason(item(sink, id), reason)
	it.LastError = lastError
	return it
}

// onlyCounts compares groups without what is known of them beside their count.
var onlyCounts = cmpopts.IgnoreFields(dlq.Group{}, "FirstSeen", "LastSeen", "LastHour", "LastDay", "Sample", "Note")

func groups(t *T, s dlq.Store, sink string) []dlq.Group {
	t.Helper()
	all, err := s.Groups(t.Context(), sink)
	if err != nil {
		t.Fatalf("Groups: %v", err)
	}
	return all
}

func histogram(t *T, s dlq.Store, q dlq.HistogramQuery) dlq.Histogram {
	t.Helper()
	h, err := s.Histogram(t.Context(), q)
	if err != nil {
		t.Fatalf("Histogram(%+v): %v", q, err)
	}
	for _, r := range h.Rows {
		if len(r.Count) != len(h.Buckets) || len(r.Arrived) != len(h.Buckets) {
			t.Fatalf("Histogram(%+v): %d buckets, and a row of %d and %d", q, len(h.Buckets), len(r.Count), len(r.Arrived))
		}
	}
	return h
}

// total is what came, and what is there, as text, by row.
func total(h dlq.Histogram) []string {
	out := []string{}
	for _, r := range h.Rows {
		var count, arrived int64
		for i := range r.Count {
			count, arrived = count+r.Count[i], arrived+r.Arrived[i]
		}
		out = append(out, fmt.Sprintf("%s/%s/%s: %d of %d", r.Sink, r.Reason, r.Fingerprint, count, arrived))
	}
	return out
}

func wantTotal(t *T, what string, h dlq.Histogram, want ...string) {
	t.Helper()
	if got := total(h); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

var causeCases = []Case{
	{
		Name: "groups say since when",
		Rule: "a group tells when its first and its newest dead letter came, the newest's id, and how many came within the last hour and day, those that are gone included",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused))
			add(t, s, failed("mail", "d2", dlq.ReasonExhausted, refused))
			last := add(t, s, failed("mail", "d3", dlq.ReasonExhausted, refused))
			settleOne(t, s, first.ID, dlq.Settlement{Action: dlq.ActionDiscard})
			all := groups(t, s, "mail")
			if len(all) != 1 {
				t.Fatalf("%d groups, want 1: %+v", len(all), all)
			}
			g := all[0]
			if g.Count != 2 || g.LastHour != 3 || g.LastDay != 3 || g.Sample != last.ID {
				t.Errorf("count %d, last hour %d, last day %d, sample %s, want 2, 3, 3, %s", g.Count, g.LastHour, g.LastDay, g.Sample, last.ID)
			}
			if want := pushTime(t, first.ID); !g.FirstSeen.Equal(want) {
				t.Errorf("first seen %s, want %s", g.FirstSeen, want)
			}
			if want := pushTime(t, last.ID); !g.LastSeen.Equal(want) {
				t.Errorf("last seen %s, want %s", g.LastSeen, want)
			}
		},
	},
	{
		Name: "a group that was empty is the same again",
		Rule: "what is known of a group outlives its dead letters: first seen, its note, and that somebody was told of it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused))
			fresh := news(t, s, "mail")
			if len(fresh) != 1 || fresh[0].Count != 1 || fresh[0].Fingerprint != dlq.Fingerprint(refused) || stats(t, s, "mail").New != 1 {
				t.Fatalf("new groups %+v (%d), want one", fresh, stats(t, s, "mail").New)
			}
			for range 2 { // it can be repeated
				if err := s.Told(t.Context(), fresh); err != nil {
					t.Fatal(err)
				}
			}
			note := dlq.GroupNote{Note: "they move", Acknowledged: true, By: "me", At: time.UnixMilli(1767225600000).UTC()}
			if g, err := s.NoteGroup(t.Context(), "mail", dlq.ReasonExhausted, fresh[0].Fingerprint, note); err != nil || g.Note == nil || *g.Note != note || g.Count != 1 {
				t.Fatalf("NoteGroup = %+v, %v", g, err)
			}
			settleOne(t, s, first.ID, dlq.Settlement{Action: dlq.ActionDiscard})
			if all := groups(t, s, "mail"); len(all) != 0 {
				t.Fatalf("groups of an empty queue: %+v", all)
			}
			known, err := s.KnownGroups(t.Context(), "")
			if err != nil || len(known) != 1 || known[0].Count != 0 || known[0].Note == nil || known[0].LastDay != 1 {
				t.Fatalf("KnownGroups = %+v, %v, want the one that is empty", known, err)
			}
			add(t, s, failed("mail", "d2", dlq.ReasonExhausted, refused))
			if fresh := news(t, s, "mail"); len(fresh) != 0 || stats(t, s, "mail").New != 0 {
				t.Errorf("it is new again: %+v", fresh)
			}
			g := groups(t, s, "mail")[0]
			if !g.FirstSeen.Equal(pushTime(t, first.ID)) || g.Note == nil || *g.Note != note || g.LastDay != 2 {
				t.Errorf("first seen %s, note %+v, last day %d, want %s, the note and 2", g.FirstSeen, g.Note, g.LastDay, pushTime(t, first.ID))
			}
		},
	},
	{
		Name: "notes",
		Rule: "the last note of a group counts, an empty one takes it away, and a group that nobody knows has none",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused))
			fp, now := dlq.Fingerprint(refused), time.Now()
			note := func(n dlq.GroupNote) (dlq.Group, error) {
				return s.NoteGroup(t.Context(), "mail", dlq.ReasonExhausted, fp, n)
			}
			for _, text := range []string{"one", "two"} {
				if g, err := note(dlq.GroupNote{Note: text, At: now}); err != nil || g.Note.Note != text {
					t.Fatalf("NoteGroup(%s) = %+v, %v", text, g, err)
				}
			}
			if g, err := note(dlq.GroupNote{}); err != nil || g.Note != nil || groups(t, s, "mail")[0].Note != nil {
				t.Errorf("an empty note: %+v, %v, want none left", g.Note, err)
			}
			_, err := s.NoteGroup(t.Context(), "mail", dlq.ReasonTerminal, fp, dlq.GroupNote{Note: "x", At: now})
			wantCode(t, "a note of an unknown group", err, fault.CodeDLQNotFound)
			_, err = note(dlq.GroupNote{Note: string(make([]byte, dlq.MaxNote+1)), At: now})
			wantCode(t, "a note that is too long", err, fault.CodeInvalidArgument)
			_, err = note(dlq.GroupNote{Note: "x"})
			wantCode(t, "a note without a time", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "who is new",
		Rule: "a group is new once, whoever pushes how often; each sink has its own",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused))
			add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused)) // the same again
			add(t, s, failed("mail", "d2", dlq.ReasonTerminal, unknownUser))
			add(t, s, failed("hook", "d1", dlq.ReasonExhausted, refused))
			if got := len(news(t, s, "mail")); got != 2 {
				t.Errorf("mail has %d new groups, want 2", got)
			}
			hook := news(t, s, "hook")
			if len(hook) != 1 {
				t.Fatalf("hook has %d new groups, want 1", len(hook))
			}
			if err := s.Told(t.Context(), hook); err != nil {
				t.Fatal(err)
			}
			if got := [2]int{len(news(t, s, "mail")), len(news(t, s, "hook"))}; got != [2]int{2, 0} {
				t.Errorf("%v are new, want 2 of mail, 0 of hook", got)
			}
		},
	},
	{
		Name: "when dead letters came",
		Rule: "the histogram counts what came and what is still there, by sink, group and reason, and of what is asked for",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "hook", 2)
			gone := add(t, s, failed("mail", "d1", dlq.ReasonExhausted, refused))
			add(t, s, failed("mail", "d2", dlq.ReasonExhausted, refused))
			add(t, s, failed("mail", "d3", dlq.ReasonExhausted, refused))
			held := add(t, s, failed("mail", "d4", dlq.ReasonTerminal, unknownUser))
			settleOne(t, s, gone.ID, dlq.Settlement{Action: dlq.ActionDiscard})
			if err := s.Discard(t.Context(), held.ID); err != nil {
				t.Fatal(err)
			}
			e, u := dlq.Fingerprint(refused), dlq.Fingerprint(unknownUser)
			for _, interval := range []time.Duration{0, 5 * time.Minute, time.Hour, 24 * time.Hour} {
				q := dlq.HistogramQuery{Interval: interval, Since: time.Now().Add(-2 * time.Hour)}
				what := interval.String()
				wantTotal(t, what, histogram(t, s, q), "mail//: 2 of 4", "hook//: 2 of 2")
				q.By = dlq.ByGroup
				wantTotal(t, what+" by group", histogram(t, s, q), "mail/exhausted/"+e+": 2 of 3", "hook/exhausted/"+e+": 2 of 2", "mail/terminal/"+u+": 0 of 1")
				q.By = dlq.ByReason
				wantTotal(t, what+" by reason", histogram(t, s, q), "/exhausted/: 4 of 5", "/terminal/: 0 of 1")
				q = dlq.HistogramQuery{Interval: interval, Sink: "mail", Reason: dlq.ReasonExhausted, Fingerprint: e}
				wantTotal(t, what+" of a group", histogram(t, s, dlq.HistogramQuery{Sink: q.Sink, Reason: q.Reason, Fingerprint: e}), "mail//: 2 of 3")
			}
			h := histogram(t, s, dlq.HistogramQuery{Sink: "mail"})
			if r := h.Rows[0]; !r.FirstSeen.Equal(pushTime(t, gone.ID)) || !r.LastSeen.Equal(pushTime(t, held.ID)) {
				t.Errorf("seen from %s to %s, want %s to %s", r.FirstSeen, r.LastSeen, pushTime(t, gone.ID), pushTime(t, held.ID))
			}
			if last := len(h.Buckets) - 1; h.Rows[0].Arrived[last]+h.Rows[0].Arrived[last-1] != 4 {
				t.Errorf("%v came, want 4 in the last two buckets", h.Rows[0].Arrived)
			}
			wantTotal(t, "of another time", histogram(t, s, dlq.HistogramQuery{Since: time.Now().Add(-72 * time.Hour), Until: time.Now().Add(-48 * time.Hour)}))
			wantTotal(t, "of another sink", histogram(t, s, dlq.HistogramQuery{Sink: "other"}))
			wantTotal(t, "of no group", histogram(t, s, dlq.HistogramQuery{Fingerprint: dlq.FingerprintOther}))
		},
	},
	{
		Name: "a histogram that cannot be",
		Rule: "what a histogram is not kept for is INVALID_ARGUMENT",
		Check: func(t *T, b Backend) {
			s, now := b.New(t.T), time.Now()
			for what, q := range map[string]dlq.HistogramQuery{
				"unknown rows":                 {By: "colour"},
				"a fingerprint without reason": {Fingerprint: "x"},
				"since after until":            {Since: now, Until: now.Add(-time.Hour)},
				"an odd interval":              {Interval: 7 * time.Minute},
				"minutes of last week":         {Since: now.Add(-7 * 24 * time.Hour), Interval: 5 * time.Minute},
				"days of last year":            {Since: now.Add(-300 * 24 * time.Hour)},
				"too many buckets":             {Since: now, Until: now.Add(300 * 24 * time.Hour), Interval: time.Hour},
				"a bad name of a sink":         {Sink: "no/name"},
			} {
				_, err := s.Histogram(t.Context(), q)
				wantCode(t, what, err, fault.CodeInvalidArgument)
			}
		},
	},
}

// news are the groups of a sink that are new.
func news(t *T, s dlq.Store, sink string) []dlq.Group {
	t.Helper()
	fresh, err := s.NewGroups(t.Context(), sink)
	if err != nil {
		t.Fatalf("NewGroups: %v", err)
	}
	return fresh
}

// pushTime is when a dead letter was pushed, by its id.
func pushTime(t *T, id string) time.Time {
	t.Helper()
	parsed, err := dlq.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	var ms, seq int64
	if _, err := fmt.Sscanf(parsed.Native, "%d-%d", &ms, &seq); err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms)
}
