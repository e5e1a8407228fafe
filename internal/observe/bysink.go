package observe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxTop is the most sinks that "top:N" may ask for.
const maxTop = 10_000

// SinkMetrics says which metrics are published by sink, too. CloudWatch charges each name and
// sink for every hour in which it comes, so this is most of the bill where there are many sinks.
// It says nothing of what is published by service and by reason, which is always everything, nor
// of the log lines, which name the sink of each number either way.
//
// A number that is published by sink is whole: none is published for some of what it counts. So
// the choice is by metric, value and sink, and never by what else happened in an invocation.
//
// The zero value is "failing".
type SinkMetrics struct {
	choice string
	top    int
}

// The choices.
const (
	chooseAll     = "all"     // each metric of each sink
	chooseFailing = "failing" // what is neither a success nor 0
	chooseNone    = "none"
	chooseTop     = "top" // the same as failing, of the sinks with the most dead letters
)

// successes count or measure what also happens when all is well, or what a caller asked for. Of
// each other metric of a sink a value that is not 0 is worth a look.
var successes = []Metric{Delivered, Accepted, Canceled, Duplicate, Attempts, AttemptLatency, EventsSent}

// ParseSinkMetrics reads "all", "failing", "none" or "top:N".
func ParseSinkMetrics(s string) (SinkMetrics, error) {
	switch choice, n, counted := strings.Cut(s, ":"); {
	case !counted && (s == chooseAll || s == chooseFailing || s == chooseNone):
		return SinkMetrics{choice: s}, nil
	case counted && choice == chooseTop:
		if top, err := strconv.Atoi(n); err == nil && top >= 1 && top <= maxTop {
			return SinkMetrics{choice: chooseTop, top: top}, nil
		}
	}
	return SinkMetrics{}, fmt.Errorf("%.40q; want all, failing, none or top:N (N from 1 to %d)", s, maxTop)
}

// of returns what of lines, all that are flushed together, is published by sink.
func (c SinkMetrics) of(lines map[dimensions]map[Metric][]float64) func(sink string, m Metric, values []float64) bool {
	telling := func(m Metric, values []float64) bool {
		return !slices.Contains(successes, m) && slices.ContainsFunc(values, func(v float64) bool { return v != 0 })
	}
	switch cmp.Or(c.choice, chooseFailing) {
	case chooseAll:
		return func(string, Metric, []float64) bool { return true }
	case chooseFailing:
		return func(_ string, m Metric, values []float64) bool { return telling(m, values) }
	case chooseTop:
		deepest := c.deepest(lines)
		return func(sink string, m Metric, values []float64) bool { return deepest[sink] && telling(m, values) }
	}
	return func(string, Metric, []float64) bool { return false }
}

// fold takes a 0 of a sink to the service's own line, where the sink's would tell no more: the
// schedule measures every sink each minute, and hundreds of lines with nothing in them cost more
// than what they say. One 0 stands for all; sums and maxima by service are the same.
func fold(lines map[dimensions]map[Metric][]float64, bySink func(string, Metric, []float64) bool) {
	for d, line := range lines {
		for m, values := range line {
			if d.sink == "" || slices.Contains(successes, m) || bySink(d.sink, m, values) || slices.ContainsFunc(values, func(v float64) bool { return v != 0 }) {
				continue
			}
			delete(line, m)
			service := lines[dimensions{}]
			if service == nil {
				service = map[Metric][]float64{}
				lines[dimensions{}] = service
			}
			if service[m] == nil {
				service[m] = []float64{0}
			}
		}
		if len(line) == 0 {
			delete(lines, d)
		}
	}
}

// deepest are the sinks with the most dead letters, those that wait in the journal among them, and
// of as many the first by name. Only a run of the schedule measures them, and it measures all:
// so whichever process makes it chooses the same, and the others publish nothing by sink.
func (c SinkMetrics) deepest(lines map[dimensions]map[Metric][]float64) map[string]bool {
	depths := map[string]float64{}
	for d, line := range lines {
		for _, m := range []Metric{DLQDepth, SpillDepth} {
			for _, v := range line[m] {
				if d.sink != "" {
					depths[d.sink] += v
				}
			}
		}
	}
	ranked := slices.SortedFunc(maps.Keys(depths), func(a, b string) int {
		return cmp.Or(cmp.Compare(depths[b], depths[a]), cmp.Compare(a, b))
	})
	chosen := map[string]bool{}
	for _, sink := range ranked[:min(c.top, len(ranked))] {
		chosen[sink] = true
	}
	return chosen
}
