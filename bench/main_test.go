// Package bench compares Backstop with what it runs on and with what a user might pick
// instead. It is a module of its own, so that the peers never become Backstop's
// dependencies. `make bench` runs it and prints one table; nothing here is a test.
//
// Every figure is a ratio of two sides that took turns in one run, or server time from
// Redis' own statistics: those hold on any machine, while times do not.
package bench

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// row is one line of the table.
type row struct {
	what           string
	unit           string  // of ours and baseline
	ours, baseline float64 // baseline: NaN when there is none
	figure         float64 // what the budget is for
	budget         float64 // NaN: for information
	atMost         bool    // the budget is an upper bound
}

var none = math.NaN()

// slower is a row whose figure is ours over the baseline, at most budget.
func slower(what, unit string, ours, baseline, budget float64) row {
	return row{what, unit, ours, baseline, ours / baseline, budget, true}
}

// paired is a row of two sides measured in turns: its figure is the median of ours[i] over
// baseline[i], which met the same machine.
func paired(what, unit string, ours, baseline []float64, budget float64) row {
	return row{what, unit, median(ours), median(baseline), medianRatio(ours, baseline), budget, true}
}

// rate is a row of two times, whose figure is our rate over the baseline's, at least
// budget.
func rate(what, unit string, ours, baseline, budget float64) row {
	return row{what, unit, ours, baseline, baseline / ours, budget, false}
}

// bound is a row whose figure is ours, at most budget.
func bound(what, unit string, ours, baseline, budget float64) row {
	return row{what, unit, ours, baseline, ours, budget, true}
}

func (r row) verdict() string {
	switch {
	case math.IsNaN(r.budget):
		return ""
	case r.atMost && r.figure > r.budget, !r.atMost && !(r.figure >= r.budget):
		return "SHORT"
	}
	return "pass"
}

func (r row) bounds() string {
	switch {
	case math.IsNaN(r.budget):
		return "-"
	case r.atMost:
		return fmt.Sprintf("<= %g", r.budget)
	}
	return fmt.Sprintf(">= %g", r.budget)
}

func quantity(v float64, unit string) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.3g %s", v, unit)
}

var table struct {
	sync.Mutex
	rows []row
}

// report adds a line to the table, and one to the output of go test for benchstat.
func report(b *testing.B, r row) {
	b.Helper()
	table.Lock()
	table.rows = append(table.rows, r)
	table.Unlock()
	b.Run(strings.Map(func(c rune) rune {
		if c == ' ' || c == '/' {
			return '_'
		}
		return c
	}, r.what), func(b *testing.B) {
		b.ReportMetric(0, "ns/op") // what ran was measured before
		b.ReportMetric(r.figure, "figure")
		b.ReportMetric(r.ours, strings.ReplaceAll(r.unit, " ", "-"))
	})
	progress("%s: %.2f %s", r.what, r.figure, r.verdict())
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(binaries)
	if len(table.rows) > 0 {
		_, _ = fmt.Fprintf(os.Stdout, "\n%s, %d cores, %s\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
		t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "WHAT\tOURS\tBASELINE\tFIGURE\tBUDGET\t")
		for _, r := range table.rows {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%s\t%s\n", r.what, quantity(r.ours, r.unit), quantity(r.baseline, r.unit), r.figure, r.bounds(), r.verdict())
		}
		_ = t.Flush()
	}
	os.Exit(code)
}

// discard is a log that nobody reads; its lines are made all the same, as in a function.
var discard = slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // DiscardHandler makes none

func ok(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func median(v []float64) float64 { return percentile(v, 0.5) }

// medianRatio returns the median of a[i] over b[i].
func medianRatio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

// percentile returns the value that a share of v does not exceed.
func percentile(v []float64, share float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[min(int(share*float64(len(v))), len(v)-1)]
}

// timed adds the time that f takes, in µs, to times.
func timed(b *testing.B, times *[]float64, f func() error) {
	b.Helper()
	start := time.Now()
	err := f()
	*times = append(*times, float64(time.Since(start).Nanoseconds())/1000)
	if err != nil {
		b.Error(err)
	}
}

// interleave calls each function n times and returns the median times in µs. They take
// turns, and each comes first as often as the others: what follows a call at once finds
// the other process still awake.
func interleave(b *testing.B, n int, calls ...func(i int) error) []float64 {
	b.Helper()
	times := make([][]float64, len(calls))
	for i := range n {
		for k := range calls {
			k = (k + i) % len(calls)
			timed(b, &times[k], func() error { return calls[k](i) })
		}
	}
	medians := make([]float64, len(calls))
	for k := range times {
		medians[k] = median(times[k])
	}
	return medians
}

// allocations returns the allocations per call of f, with those of whatever serves it
// in this process.
func allocations(b *testing.B, n int, f func(i int) error) float64 {
	b.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		ok(b, f(i))
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}
