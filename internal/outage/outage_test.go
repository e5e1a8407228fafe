// Package outage plays outages with the real gate, Retrier and replay engine, on a synthetic
// clock: many processes, one store, and receivers that are down, ask to wait, flap or hang.
// `go test` plays small ones; `make outage` plays 200 processes and an hour, and prints a table.
package outage

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"
)

var (
	flagSeed      = flag.Uint64("outage.seed", 0, "seed; 0 takes a random one")
	flagProcesses = flag.Int("outage.processes", 20, "processes that send")
	flagHour      = flag.Duration("outage.hour", 10*time.Minute, "how long an outage takes")
	flagOnly      = flag.String("outage.only", "", "only the scenarios whose name contains it")
)

// One goroutine at a time: then the order of those that are ready is the same in each run.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

func TestOutage(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1<<32)
	}
	t.Logf("outage: SEED=%d, %d processes, an outage of %s", seed, *flagProcesses, *flagHour)
	total := newRules()
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	line(out, "scenario\tgate\tdeliveries\tattempts\tbusiest\tpaid each\treplays paid\topen\tthrottled\thanded back\tlate\tlost\tfigures")
	for _, s := range scenarios(scale{*flagProcesses, *flagHour}) {
		if !strings.Contains(s.name, *flagOnly) {
			continue
		}
		// Each in its own test, so that the one which fails is named.
		t.Run(s.name, func(t *testing.T) {
			var gate, none *world
			synctest.Test(t, func(t *testing.T) {
				gate = newWorld(s.plan, seed, true)
				gate.run(t)
			})
			if !s.once {
				synctest.Test(t, func(t *testing.T) {
					none = newWorld(s.plan, seed, false)
					none.run(t)
				})
				line(out, none.row(s))
			}
			line(out, gate.row(s))
			for _, w := range []*world{gate, none} {
				if w == nil {
					continue
				}
				for _, fault := range w.rules.faults() {
					t.Errorf("SEED=%d gate=%v %s", seed, w.gated, fault)
				}
				for _, err := range w.faults {
					t.Errorf("SEED=%d gate=%v: %v", seed, w.gated, err)
				}
			}
			for _, fault := range s.claims(gate, none) {
				if fault != "" {
					t.Errorf("SEED=%d: %s", seed, fault)
				}
			}
			for name, n := range gate.rules.checks {
				total.checks[name] += n
			}
		})
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, name := range everyRule {
		fmt.Fprintf(&table, "checked %9d times: %s\n", total.checks[name], name)
		if total.checks[name] == 0 && *flagOnly == "" {
			t.Errorf("never checked: %s", name)
		}
	}
	if testing.Verbose() {
		if _, err := io.WriteString(os.Stdout, "\n"+table.String()); err != nil {
			t.Fatal(err)
		}
	}
}

func line(w io.Writer, text string) { _, _ = fmt.Fprintln(w, text) } // Flush reports it

// row is a run's, as the table shows it.
func (w *world) row(s scenario) string {
	gate := "no"
	if w.gated {
		gate = "yes"
	}
	by := map[int]int{}
	for _, a := range w.attempts {
		if !a.replayed {
			by[a.process]++
		}
	}
	busiest := 0
	for _, n := range by {
		busiest = max(busiest, n)
	}
	said := ""
	if s.say != nil {
		said = s.say(w)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s", w.plan.name, gate, len(w.accepted), len(w.attempts), busiest,
		(w.paid / time.Duration(max(len(w.accepted), 1))).Round(time.Millisecond), w.replaying.Round(time.Second),
		w.fates["open"], w.fates["throttled"], w.fates["handed back"], w.late, w.lost, said)
}
