// Package bench compares what Backstop does with a baseline in the same run: server
// time from Redis' own statistics, or two ways interleaved call by call. `make bench`
// runs it and prints one table; nothing here is a test.
package bench

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
)

// row is one line of the table.
type row struct {
	what, ours, baseline string
	value, budget        float64
	atMost               bool // the budget is an upper bound
}

var table struct {
	sync.Mutex
	rows []row
}

// report adds a line to the table.
func report(b *testing.B, r row) {
	b.Helper()
	table.Lock()
	defer table.Unlock()
	table.rows = append(table.rows, r)
	fmt.Fprintf(os.Stderr, "bench: %s: %.2f\n", r.what, r.value) // progress
}

func TestMain(m *testing.M) {
	code := m.Run()
	if len(table.rows) > 0 {
		t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "\nWHAT\tOURS\tBASELINE\tFIGURE\tBUDGET\t")
		for _, r := range table.rows {
			sign, verdict := ">=", "pass"
			if r.atMost {
				sign = "<="
			}
			if r.atMost && r.value > r.budget || !r.atMost && r.value < r.budget {
				verdict = "SHORT"
			}
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%s %g\t%s\n", r.what, r.ours, r.baseline, r.value, sign, r.budget, verdict)
		}
		_ = t.Flush()
	}
	os.Exit(code)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
