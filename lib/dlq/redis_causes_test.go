package dlq_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

// known are the fields of a companion of the queue mail.
func fieldsOf(t *testing.T, c redis.UniversalClient, s prefixed, companion string) map[string]string {
	t.Helper()
	m, err := c.HGetAll(t.Context(), "{"+s.prefix+":dlq:mail}:"+companion).Result()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// counts are what a histogram of the day has in all.
func counted24(t *testing.T, s dlq.Store) (there, came int64) {
	t.Helper()
	h, err := s.Histogram(t.Context(), dlq.HistogramQuery{Interval: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range h.Rows {
		for i := range r.Count {
			there, came = there+r.Count[i], came+r.Arrived[i]
		}
	}
	return there, came
}

// TestWhatAnOlderVersionStoredIsCounted: it kept neither causes nor a history. A pass over the queue
// makes both, and none of the groups is new then.
func TestWhatAnOlderVersionStoredIsCounted(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	mix(t, s, 3, 1)
	before, err := s.Groups(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	key := "{" + s.prefix + ":dlq:mail}:"
	if err := c.Del(t.Context(), key+"causes", key+"history").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.HDel(t.Context(), key+"meta", "new").Err(); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, s, message("mail", "meanwhile"))
	mended(t, c, s, false)
	after, err := s.Groups(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]dlq.Group{}
	for _, g := range before {
		known[g.ID()] = g
	}
	for _, g := range after {
		if b, ok := known[g.ID()]; ok && (!g.FirstSeen.Equal(b.FirstSeen) || g.LastSeen.Before(b.LastSeen)) {
			t.Errorf("%s was seen from %s to %s, want %s to %s", g.Fingerprint, g.FirstSeen, g.LastSeen, b.FirstSeen, b.LastSeen)
		}
	}
	if fresh, err := s.NewGroups(t.Context(), "mail"); err != nil || len(fresh) != 1 {
		t.Errorf("new are %+v, %v; want the one that came meanwhile", fresh, err)
	}
	if there, came := counted24(t, s); there != 3*16+1 || came != there {
		t.Errorf("the histogram has %d of %d, want all %d", there, came, 3*16+1)
	}
}

// TestTheHistoryIsBounded: beyond its bound what comes counts in no group, and is counted out there.
func TestTheHistoryIsBounded(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	first := mustAdd(t, s, message("mail", "a"))
	key := "{" + s.prefix + ":dlq:mail}:history"
	now := time.Now().Unix() / 3600
	full := map[string]any{}
	for i := range 8190 {
		full[fmt.Sprintf("h%d:g%d", now-1, i)] = 1 << 26 // came, and are gone
	}
	if err := c.HSet(t.Context(), key, full).Err(); err != nil {
		t.Fatal(err)
	}
	it := message("mail", "b")
	it.LastError = "another"
	second := mustAdd(t, s, it)
	if n := len(fieldsOf(t, c, s, "history")); n > 8192+6 {
		t.Errorf("%d fields, want no more than 8192 and those of no group", n)
	}
	if there, came := counted24(t, s); there != 2 || came != 2 {
		t.Errorf("%d of %d, want 2 of 2", there, came)
	}
	for _, id := range []string{second.ID, first.ID} {
		if err := s.Discard(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if there, came := counted24(t, s); there != 0 || came != 2 {
		t.Errorf("%d of %d, want none of 2", there, came)
	}
	for field, v := range fieldsOf(t, c, s, "history") {
		if strings.HasPrefix(v, "-") {
			t.Errorf("%s is %s", field, v)
		}
	}
	if err := c.Del(t.Context(), key).Err(); err != nil { // for the audit
		t.Fatal(err)
	}
}

// TestWhatIsOldIsForgotten: times that nobody can ask for, and causes of which nothing came for a
// month, but for those of which something is there or was noted of late.
func TestWhatIsOldIsForgotten(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	ctx := t.Context()
	for _, emptied := range []bool{false, true} {
		s := newStore(t, c)
		add := func(lastError string) dlq.Item {
			it := message("mail", lastError)
			it.LastError = lastError
			return mustAdd(t, s, it)
		}
		old, noted, there := add("old"), add("noted"), add("there")
		if _, err := s.NoteGroup(ctx, "mail", dlq.ReasonExhausted, "noted", dlq.GroupNote{Note: "n", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		gone := []string{old.ID, noted.ID}
		if emptied {
			gone = append(gone, there.ID)
		}
		for _, id := range gone {
			if err := s.Discard(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		key := "{" + s.prefix + ":dlq:mail}:"
		monthAgo := time.Now().Add(-31 * 24 * time.Hour).UnixMilli()
		for field := range fieldsOf(t, c, s, "causes") {
			if g, ok := strings.CutPrefix(field, "l:"); ok {
				if err := c.HSet(ctx, key+"causes", "l:"+g, fmt.Sprintf("%d-0", monthAgo)).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		stale := map[string]any{}
		for name, width := range map[string]time.Duration{"m": 5 * time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
			stale[fmt.Sprintf("%s%d:g", name, time.Now().Add(-93*24*time.Hour).Unix()/int64(width.Seconds()))] = 1 << 26
		}
		if err := c.HSet(ctx, key+"history", stale).Err(); err != nil {
			t.Fatal(err)
		}
		mended(t, c, s, false)
		known, err := s.KnownGroups(ctx, "mail")
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, g := range known {
			left = append(left, g.Fingerprint)
		}
		want := "[there noted]"
		if emptied {
			want = "[noted]"
		}
		if fmt.Sprint(left) != want {
			t.Errorf("emptied %v: %v are known, want %s", emptied, left, want)
		}
		for field := range fieldsOf(t, c, s, "history") {
			if stale[field] != nil {
				t.Errorf("emptied %v: the history has %s", emptied, field)
			}
		}
	}
}

// TestWhatAStrangerWroteBesideTheGroupsStopsNobody: it is left out, and mended away.
func TestWhatAStrangerWroteBesideTheGroupsStopsNobody(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	mustAdd(t, s, message("mail", "d"))
	before, err := s.Groups(t.Context(), "mail")
	if err != nil || len(before) != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	g := before[0]
	key := "{" + s.prefix + ":dlq:mail}:"
	if err := c.HSet(t.Context(), key+"history", "m", 1, "m5", 1, "mx:", 1, "h:", 1, "dd:x", 1).Err(); err != nil {
		t.Fatal(err)
	}
	err = c.HSet(t.Context(), key+"causes", "l", 1, "l:gone", "never", "f:gone", "never", "t:gone", "x", "note:gone", "{", "note:"+g.ID(), "{").Err()
	if err != nil {
		t.Fatal(err)
	}
	if there, came := counted24(t, s); there != 1 || came != 1 {
		t.Errorf("%d of %d are there, want 1 of 1", there, came)
	}
	for name, read := range map[string]func(context.Context, string) ([]dlq.Group, error){"Groups": s.Groups, "KnownGroups": s.KnownGroups} {
		groups, err := read(t.Context(), "mail")
		if err != nil || !slices.ContainsFunc(groups, func(found dlq.Group) bool { return found.ID() == g.ID() && found.Count == 1 }) {
			t.Errorf("%s = %+v, %v", name, groups, err)
		}
	}
	mended(t, c, s, false)
	left, err := c.HKeys(t.Context(), key+"causes").Result()
	if err != nil || slices.ContainsFunc(left, func(field string) bool { return strings.HasSuffix(field, ":gone") }) {
		t.Errorf("left are %q, %v", left, err)
	}
}
