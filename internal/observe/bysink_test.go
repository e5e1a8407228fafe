package observe_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/observe"
)

func choose(t *testing.T, s string) observe.SinkMetrics {
	t.Helper()
	c, err := observe.ParseSinkMetrics(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// published returns what CloudWatch makes of lines: sums by metric and dimensions.
func published(t *testing.T, m *observe.Metrics) map[string]float64 {
	t.Helper()
	sums := map[string]float64{}
	docs, raw := flush(t, m)
	for i, d := range docs {
		for _, directive := range d.AWS.CloudWatchMetrics {
			for _, set := range directive.Dimensions {
				for _, def := range directive.Metrics {
					key := def.Name
					for _, dimension := range set[1:] {
						key += fmt.Sprint(" ", raw[i][dimension])
					}
					v, ok := raw[i][def.Name].(float64)
					if !ok {
						t.Fatalf("%s: %v, want one number", key, raw[i][def.Name])
					}
					sums[key] += v
				}
			}
		}
	}
	return sums
}

// A tick and a batch, as a process of each kind flushes them.
func tick(m *observe.Metrics) {
	for sink, depth := range map[string]float64{"down": 7, "slow": 7, "bad": 2, "well": 0, "spent": 0} {
		m.Add(observe.DLQDepth, sink, depth)
		m.Add(observe.DLQOldestAge, sink, 60*depth)
	}
	m.Add(observe.SpillDepth, "full", 9)
	m.Add(observe.QueueLost, "full", 0)
	m.Add(observe.ReplayDelivered, "bad", 3)
	m.Add(observe.ReplayDelivered, "spent", 4) // its last ones
	m.Add(observe.ReplayRuns, "", 1)
}

func batch(m *observe.Metrics) {
	for _, sink := range []string{"well", "down"} {
		m.Add(observe.Delivered, sink, 5)
		m.Add(observe.Attempts, sink, 6)
		m.Add(observe.AttemptLatency, sink, 40)
	}
	m.AddReason(observe.DeadLettered, "down", "exhausted", 2)
	m.AddReason(observe.HandedBack, "", "SINK_NOT_FOUND", 1)
}

func TestWhatIsPublishedBySinkIsChosen(t *testing.T) {
	always := map[string]float64{
		"DLQDepth": 16, "DLQOldestAge": 960, "SpillDepth": 9, "QueueLost": 0, "ReplayDelivered": 7, "ReplayRuns": 1, "Delivered": 10, "Attempts": 12,
		"AttemptLatency": 80, "DeadLettered": 2, "DeadLettered exhausted": 2, "HandedBack": 1, "HandedBack SINK_NOT_FOUND": 1,
	}
	for choice, want := range map[string]map[string]float64{
		"none": {},
		"failing": {
			"DLQDepth down": 7, "DLQOldestAge down": 420, "DLQDepth slow": 7, "DLQOldestAge slow": 420, "DLQDepth bad": 2, "DLQOldestAge bad": 120,
			"SpillDepth full": 9, "ReplayDelivered bad": 3, "ReplayDelivered spent": 4, "DeadLettered down": 2,
		},
		"all": {
			"DLQDepth down": 7, "DLQOldestAge down": 420, "DLQDepth slow": 7, "DLQOldestAge slow": 420, "DLQDepth bad": 2, "DLQOldestAge bad": 120,
			"DLQDepth well": 0, "DLQOldestAge well": 0, "DLQDepth spent": 0, "DLQOldestAge spent": 0, "SpillDepth full": 9, "QueueLost full": 0, "ReplayDelivered bad": 3, "ReplayDelivered spent": 4,
			"Delivered well": 5, "Attempts well": 6, "AttemptLatency well": 40, "Delivered down": 5, "Attempts down": 6, "AttemptLatency down": 40, "DeadLettered down": 2,
		},
		// The deepest, what waits in the journal counted; of two as deep the first by name. A process that measures nothing publishes nothing.
		"top:2": {"SpillDepth full": 9, "DLQDepth down": 7, "DLQOldestAge down": 420},
		"top:9": {
			"DLQDepth down": 7, "DLQOldestAge down": 420, "DLQDepth slow": 7, "DLQOldestAge slow": 420, "DLQDepth bad": 2, "DLQOldestAge bad": 120,
			"SpillDepth full": 9, "ReplayDelivered bad": 3, "ReplayDelivered spent": 4,
		},
	} {
		got := map[string]float64{}
		for _, run := range []func(*observe.Metrics){tick, batch} { // processes of their own, with nothing in common
			m := observe.NewMetrics("svc", choose(t, choice))
			run(m)
			for k, v := range published(t, m) {
				got[k] += v
			}
		}
		for k, v := range always {
			if n, ok := got[k]; !ok || n != v {
				t.Errorf("%s: %s is %v, %v; want %v in each choice", choice, k, n, ok, v)
			}
			delete(got, k)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: by sink (-want +got)\n%s", choice, diff)
		}
	}
}

// Under the two choices that need nothing of other metrics, a number by sink is the whole number, in however many lines it came.
func TestANumberBySinkIsWhole(t *testing.T) {
	whole := map[string]float64{}
	for _, choice := range []string{"all", "failing"} {
		m := observe.NewMetrics("svc", choose(t, choice))
		sums := map[string]float64{}
		for i := range 20 { // now with a failure, now without
			m.Add(observe.Delivered, "ops", 3)
			m.Add(observe.DLQDepth, "ops", float64(i%4))
			if i%3 == 0 {
				m.Add(observe.DeadLettered, "ops", 1)
			}
			for k, v := range published(t, m) {
				sums[k] += v
			}
		}
		if choice == "all" {
			whole = sums
		}
		for k, v := range sums {
			if v != whole[k] {
				t.Errorf("%s: %s is %v, want %v or nothing", choice, k, v, whole[k])
			}
		}
		if _, ok := sums["Delivered ops"]; ok != (choice == "all") {
			t.Errorf("%s: successes by sink: %v", choice, ok)
		}
	}
}

// What is not published by sink can be asked for in the log.
func TestALineNamesItsSinkWhateverIsPublished(t *testing.T) {
	for _, choice := range []string{"all", "failing", "none", "top:1"} {
		m := observe.NewMetrics("svc", choose(t, choice))
		m.Add(observe.Delivered, "ops", 3)
		if _, raw := flush(t, m); raw[0]["Sink"] != "ops" || raw[0]["Delivered"] != 3.0 {
			t.Errorf("%s: %v, want the sink and its number", choice, raw[0])
		}
	}
}

// A tick measures every sink; those that are well are no lines of their own, unless their numbers are published.
func TestSinksThatAreWellTakeNoLines(t *testing.T) {
	for choice, want := range map[string]int{"all": 501, "failing": 2, "none": 2, "top:3": 2} {
		m := observe.NewMetrics("svc", choose(t, choice))
		for i := range 500 {
			m.Add(observe.DLQDepth, fmt.Sprint("well-", i), 0)
			m.Add(observe.DLQOldestAge, fmt.Sprint("well-", i), 0)
		}
		m.Add(observe.DLQDepth, "down", 3)
		_, raw := flush(t, m)
		deepest := 0.0
		for _, line := range raw {
			depth, ok := line["DLQDepth"].(float64)
			if !ok {
				t.Errorf("%s: %v, want one depth", choice, line)
			}
			deepest = max(deepest, depth)
		}
		if len(raw) != want || deepest != 3 {
			t.Errorf("%s: %d lines, depth %v; want %d lines and 3", choice, len(raw), deepest, want)
		}
	}
	// A latency of 0 is a measurement.
	m := observe.NewMetrics("svc", choose(t, "failing"))
	m.Add(observe.AttemptLatency, "a", 0)
	m.Add(observe.AttemptLatency, "b", 0)
	if _, raw := flush(t, m); len(raw) != 2 {
		t.Errorf("%v, want both latencies", raw)
	}
}

func TestOtherChoicesAreRefused(t *testing.T) {
	for _, s := range []string{"", "some", "ALL", "top", "top:", "top:0", "top:-1", "top:x", "top:10001", "all:3", "failing,top:3"} {
		if _, err := observe.ParseSinkMetrics(s); err == nil || !strings.Contains(err.Error(), "want all, failing, none or top:N") {
			t.Errorf("%q: got %v, want it refused with the choices", s, err)
		}
	}
}

func TestFailingIsTheDefault(t *testing.T) {
	var none observe.SinkMetrics
	for i, c := range []observe.SinkMetrics{none, choose(t, "failing")} {
		m := observe.NewMetrics("svc", c)
		tick(m)
		batch(m)
		if got := published(t, m); got["DeadLettered down"] != 2 || got["Delivered down"] != 0 {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// docs/metrics.md lists what "failing" leaves out.
func TestThePageNamesTheSuccesses(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	_, list, _ := strings.Cut(string(page), "**Successes** are ")
	list, _, _ = strings.Cut(list, ".")
	for i, word := range strings.Split(list, "`") {
		if i%2 == 1 {
			documented = append(documented, word)
		}
	}
	var left []string
	for _, metric := range []observe.Metric{ // all that is counted by sink
		observe.Delivered, observe.DeadLettered, observe.Accepted, observe.Expired, observe.Canceled, observe.HandedBack, observe.Duplicate, observe.Unguarded,
		observe.Attempts, observe.AttemptLatency, observe.Trimmed, observe.Retired, observe.Spilled, observe.SpillDepth, observe.Unjournaled, observe.Ending,
		observe.Healed, observe.Damaged, observe.QueueLost, observe.DLQDepth, observe.DLQOldestAge, observe.ReplayDelivered, observe.ReplayFailed, observe.Parked,
		observe.NewCauses, observe.BreakerOpened, observe.Held, observe.Throttled, observe.EventsSent, observe.EventsDeadLettered, observe.EventsPending,
	} {
		m := observe.NewMetrics("svc", choose(t, "failing"))
		m.Add(metric, "ops", 1)
		if _, ok := published(t, m)[metric.Name+" ops"]; !ok {
			left = append(left, metric.Name)
		}
	}
	slices.Sort(documented)
	slices.Sort(left)
	if diff := cmp.Diff(left, documented); diff != "" {
		t.Errorf("left out (-by the code +by the page)\n%s", diff)
	}
}
