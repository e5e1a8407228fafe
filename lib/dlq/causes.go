package dlq

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"backstop/lib/fault"
)

// Group is a number of dead letters that failed alike.
type Group struct {
	Sink   string `json:"sink"`
	Reason Reason `json:"reason"`
	// Fingerprint is LastError with numbers, ids and addresses masked (see
	// Fingerprint).
	Fingerprint string `json:"fingerprint"`
	Count       int64  `json:"count"`

	// FirstSeen and LastSeen are when the first and the newest dead letter of the group was
	// pushed, those that are gone included. Zero: not known. A group of which nothing came for
	// CauseRetention is forgotten with its last dead letter.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	// LastHour and LastDay are how many came, those that are gone included: since the last hour
	// ago, to the next five minutes of the clock, and since the last day ago, to the next hour.
	LastHour int64 `json:"last_hour"`
	LastDay  int64 `json:"last_day"`
	// Sample is the public id of the newest. It may be gone. Empty: not known.
	Sample string `json:"sample,omitempty"`
	// Note is what an operator noted. Nil: nothing.
	Note *GroupNote `json:"note,omitempty"`
}

// GroupNote is what an operator noted about a group.
type GroupNote struct {
	Note string `json:"note"`
	// Acknowledged says that somebody knows of the cause and cares for it.
	Acknowledged bool      `json:"acknowledged,omitempty"`
	By           string    `json:"by,omitempty"`
	At           time.Time `json:"at"`
}

// MaxNote is the most bytes of a note's text.
const MaxNote = 2000

// CauseRetention is how long a group is remembered of which nothing comes any more, and its note.
const CauseRetention = 30 * 24 * time.Hour

// maxNew is how many new groups of a sink wait to be told. Of more nobody is told.
const maxNew = 100

// Causes tell why dead letters come, and since when. Their counts are kept beside the truth: they heal
// within some hours, and nothing rests on them.
type Causes interface {
	// NoteGroup notes something about a group of a sink, and returns it with its note: the time
	// is the caller's, as everything in it. An empty note takes the former away. A group that is
	// empty by now can be noted as long as it is remembered; none: SINK_DLQ_NOT_FOUND.
	NoteGroup(ctx context.Context, sink string, reason Reason, fingerprint string, n GroupNote) (Group, error)

	// KnownGroups are Groups with those that are remembered though nothing of them is there, without
	// FingerprintOther.
	KnownGroups(ctx context.Context, sink string) ([]Group, error)

	// NewGroups returns the groups of a sink that are new and that nobody was told of yet: nothing
	// failed in this way as far as is remembered. At most 100 wait so.
	NewGroups(ctx context.Context, sink string) ([]Group, error)

	// Told ends that groups are new: somebody was told. It can be repeated.
	Told(ctx context.Context, told []Group) error

	// Histogram returns when dead letters came. The cost does not depend on the depth.
	Histogram(ctx context.Context, q HistogramQuery) (Histogram, error)
}

// ID names the group by its sink, reason and fingerprint: the same today and tomorrow, short enough
// to be typed.
func (g Group) ID() string {
	sum := sha256.Sum256([]byte(g.Sink + "\x00" + string(g.Reason) + "\x00" + g.Fingerprint))
	return hex.EncodeToString(sum[:6])
}

// FindGroup finds a group by its ID, in a sink or, when sink is empty, in all. None, or none of which
// anything is known: SINK_DLQ_NOT_FOUND.
func FindGroup(ctx context.Context, s interface {
	Groups(ctx context.Context, sink string) ([]Group, error)
	KnownGroups(ctx context.Context, sink string) ([]Group, error)
}, sink, id string,
) (Group, error) {
	for _, list := range []func(context.Context, string) ([]Group, error){s.KnownGroups, s.Groups} {
		all, err := list(ctx, sink)
		if err != nil {
			return Group{}, err
		}
		if i := slices.IndexFunc(all, func(g Group) bool { return g.ID() == id }); i >= 0 {
			return all[i], nil
		}
	}
	return Group{}, &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf("no group of dead letters has the id %.20q; see GET /v1/dlq/groups", id)}
}

// groupOf finds a group.
func groupOf(all []Group, sink string, reason Reason, fingerprint string) (Group, error) {
	i := slices.IndexFunc(all, func(g Group) bool { return g.Reason == reason && g.Fingerprint == fingerprint })
	if i < 0 {
		return Group{}, noGroupError(sink)
	}
	return all[i], nil
}

// empty reports whether the note takes a former one away.
func (n GroupNote) empty() bool { return n.Note == "" && !n.Acknowledged }

func checkNote(sink string, n GroupNote) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	switch {
	case len(n.Note) > MaxNote:
		return invalid("note: %d bytes are more than %d", len(n.Note), MaxNote)
	case n.At.IsZero() && !n.empty():
		return invalid("note: its time is missing")
	}
	return nil
}

func noGroupError(sink string) error {
	return &fault.Error{Code: fault.CodeDLQNotFound, Msg: "sink " + sink + " has no such group of dead letters"}
}

// HistogramBy is what the rows of a histogram are.
type HistogramBy string

// What the rows of a histogram can be.
const (
	BySink   HistogramBy = "sink"
	ByGroup  HistogramBy = "group"
	ByReason HistogramBy = "reason"
)

// HistogramQuery asks when dead letters came. Zero fields select everything.
type HistogramQuery struct {
	// By is what the rows are; empty means BySink.
	By HistogramBy
	// Sink, Reason and Fingerprint select what is counted; a Fingerprint with its Reason.
	Sink        string
	Reason      Reason
	Fingerprint string
	// Since and Until bound the time of the push, rounded outwards to whole intervals. Zero: a day
	// before Until, and now.
	Since, Until time.Time
	// Interval is the length of a bucket, one of Intervals. Zero: what gives some dozens.
	Interval time.Duration
}

// Intervals are the lengths that a bucket can have. They begin with the hours and days of UTC.
var Intervals = []time.Duration{
	5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour,
	6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// Histogram tells when dead letters came.
type Histogram struct {
	Interval     time.Duration
	Since, Until time.Time
	// Buckets are the beginnings of the buckets.
	Buckets []time.Time
	// Rows have something in a bucket. The one with the most that is still there comes first.
	Rows []HistogramRow
}

// HistogramRow is a part of the dead letters of a Histogram: of a sink, a group or a reason. What is in
// no group has no Reason and FingerprintOther.
type HistogramRow struct {
	Sink        string
	Reason      Reason
	Fingerprint string
	// Count are those that came in each bucket and are still there, Arrived all that came then.
	Count, Arrived []int64
	// FirstSeen and LastSeen are of the groups of the row: their first and their newest ever. Zero:
	// not known.
	FirstSeen, LastSeen time.Time
}

// resolution is a length of time in which dead letters are counted, and for how long.
type resolution struct {
	name  string
	width time.Duration
	kept  time.Duration
}

// resolutions are those of entry.lua.
var resolutions = []resolution{
	{"m", 5 * time.Minute, 13 * time.Hour}, {"h", time.Hour, 9 * 24 * time.Hour}, {"d", 24 * time.Hour, 92 * 24 * time.Hour},
}

// maxBuckets is the most buckets of a histogram.
const maxBuckets = 500

// plan is what a HistogramQuery asks for, all said.
type plan struct {
	HistogramQuery
	of       resolution
	from, to int64 // numbers of the first and last width since 1970
	buckets  []time.Time
}

// bucket returns the index of the bucket that has the n-th width since 1970.
func (p plan) bucket(n int64) int {
	return int((n*int64(p.of.width) - p.Since.UnixNano()) / int64(p.Interval))
}

func planOf(q HistogramQuery, now time.Time) (plan, error) {
	p := plan{HistogramQuery: q}
	if p.By == "" {
		p.By = BySink
	}
	if p.Until.IsZero() {
		p.Until = now.Add(time.Nanosecond) // what came right now is among them
	}
	if p.Since.IsZero() {
		p.Since = p.Until.Add(-24 * time.Hour)
	}
	switch {
	case !slices.Contains([]HistogramBy{BySink, ByGroup, ByReason}, p.By):
		return p, invalid("by: %.40q is none of sink, group and reason", p.By)
	case p.Fingerprint != "" && p.Fingerprint != FingerprintOther && p.Reason == "":
		return p, invalid("fingerprint: its reason is missing")
	case !p.Since.Before(p.Until):
		return p, invalid("since: %s is not before until, %s", p.Since.Format(time.RFC3339), p.Until.Format(time.RFC3339))
	case p.Interval != 0 && !slices.Contains(Intervals, p.Interval):
		return p, invalid("interval: it is one of %s", intervalNames())
	}
	if p.Interval == 0 {
		p.Interval = fitting(p.Until.Sub(p.Since), now.Sub(p.Since))
	}
	p.of = resolutionOf(p.Interval)
	if age := now.Sub(p.Since); age > p.of.kept {
		return p, invalid("since: in intervals of %s it reaches back %s; ask for longer ones", IntervalName(p.Interval), IntervalName(p.of.kept))
	}
	p.Since = p.Since.Truncate(p.Interval).UTC()
	if end := p.Until.Truncate(p.Interval); end.Before(p.Until) {
		p.Until = end.Add(p.Interval)
	}
	p.Until = p.Until.UTC()
	for at := p.Since; at.Before(p.Until); at = at.Add(p.Interval) {
		if len(p.buckets) == maxBuckets {
			return p, invalid("interval: %s gives more than %d buckets; ask for longer ones", IntervalName(p.Interval), maxBuckets)
		}
		p.buckets = append(p.buckets, at)
	}
	p.from, p.to = p.Since.UnixNano()/int64(p.of.width), p.Until.UnixNano()/int64(p.of.width)-1
	return p, nil
}

// fitting is the shortest interval that gives no more than 50 buckets and reaches back far enough.
func fitting(span, age time.Duration) time.Duration {
	for _, i := range Intervals {
		if span <= 50*i && age <= resolutionOf(i).kept {
			return i
		}
	}
	return Intervals[len(Intervals)-1]
}

// resolutionOf is the widest that an interval is made of.
func resolutionOf(interval time.Duration) resolution {
	of := resolutions[0]
	for _, r := range resolutions {
		if r.width <= interval {
			of = r
		}
	}
	return of
}

// IntervalName writes an interval as people do: 5m, 12h, 1d.
func IntervalName(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// ParseInterval reads what IntervalName writes of one of Intervals.
func ParseInterval(s string) (time.Duration, error) {
	for _, d := range Intervals {
		if IntervalName(d) == s {
			return d, nil
		}
	}
	return 0, invalid("interval: %.40q is none of %s", s, intervalNames())
}

func intervalNames() string {
	names := make([]string, len(Intervals))
	for i, d := range Intervals {
		names[i] = IntervalName(d)
	}
	return strings.Join(names, ", ")
}

// row is what a store knows of a group's history: what came, and of that what is there, by the number
// of the width.
type row struct {
	sink, group, text string
	first, last       time.Time
	counts            []counted
}

// counted is what came within a width, and what of it is still there.
type counted struct{ at, came, there int64 }

// histogram puts rows together as asked.
func (p plan) histogram(rows []row) Histogram {
	h := Histogram{Interval: p.Interval, Since: p.Since, Until: p.Until, Buckets: p.buckets, Rows: []HistogramRow{}}
	type key struct{ sink, reason, fingerprint string }
	index := map[key]int{}
	for _, r := range rows {
		fingerprint, reason, _ := strings.Cut(r.text, "\n")
		if r.group == "" {
			fingerprint = FingerprintOther
		}
		k := key{sink: r.sink}
		switch p.By {
		case ByGroup:
			k.reason, k.fingerprint = reason, fingerprint
		case ByReason:
			k = key{reason: reason}
			if reason == "" {
				k.fingerprint = FingerprintOther
			}
		}
		i, ok := index[k]
		if !ok {
			i = len(h.Rows)
			index[k] = i
			h.Rows = append(h.Rows, HistogramRow{
				Sink: k.sink, Reason: Reason(k.reason), Fingerprint: k.fingerprint,
				Count: make([]int64, len(p.buckets)), Arrived: make([]int64, len(p.buckets)),
			})
		}
		out := &h.Rows[i]
		for _, c := range r.counts {
			out.Arrived[p.bucket(c.at)] += c.came
			out.Count[p.bucket(c.at)] += c.there
		}
		if !r.first.IsZero() && (out.FirstSeen.IsZero() || r.first.Before(out.FirstSeen)) {
			out.FirstSeen = r.first
		}
		if r.last.After(out.LastSeen) {
			out.LastSeen = r.last
		}
	}
	slices.SortFunc(h.Rows, HistogramRow.compare)
	return h
}

// compare puts the row with the most that is still there first.
func (r HistogramRow) compare(o HistogramRow) int {
	return cmp.Or(cmp.Compare(sum(o.Count), sum(r.Count)), cmp.Compare(sum(o.Arrived), sum(r.Arrived)),
		cmp.Compare(r.Sink, o.Sink), cmp.Compare(r.Reason, o.Reason), cmp.Compare(r.Fingerprint, o.Fingerprint))
}

func sum(counts []int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
