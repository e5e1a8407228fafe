package functions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/local"
	"backstop/internal/observe"
)

// ofHealthySinks are the metrics of a sink whose deliveries arrive and that has no dead letters: what
// docs/deploy.md counts.
var ofHealthySinks = []string{"AttemptLatency", "Attempts", "DLQDepth", "DLQOldestAge", "Delivered"}

// published returns what CloudWatch makes of the lines so far: sums by the values of the dimensions
// behind the service, then by metric.
func (l *lines) published(t *testing.T) map[string]map[string]float64 {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	sums := map[string]map[string]float64{}
	for _, line := range l.all {
		_, line, _ = strings.Cut(line, " | ")
		var root map[string]any
		var doc struct {
			AWS struct {
				CloudWatchMetrics []struct {
					Dimensions [][]string
					Metrics    []struct{ Name string }
				}
			} `json:"_aws"`
		}
		if !strings.Contains(line, `"_aws"`) {
			continue
		}
		if err := errors.Join(json.Unmarshal([]byte(line), &root), json.Unmarshal([]byte(line), &doc)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, d := range doc.AWS.CloudWatchMetrics {
			for _, set := range d.Dimensions {
				by := ""
				for _, dimension := range set[1:] {
					by = fmt.Sprintf("%s %v", dimension, root[dimension])
				}
				for _, m := range d.Metrics {
					if sums[by] == nil {
						sums[by] = map[string]float64{}
					}
					v, _ := root[m.Name].(float64) // several values are no count
					sums[by][m.Name] += v
				}
			}
		}
	}
	return sums
}

// unlogged returns how many deliveries the lines so far count that have none of their own.
func (l *lines) unlogged() (n float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		_, line, _ = strings.Cut(line, " | ")
		var doc struct{ Unlogged struct{ Deliveries float64 } }
		if json.Unmarshal([]byte(line), &doc) == nil {
			n += doc.Unlogged.Deliveries
		}
	}
	return n
}

// Which sinks and numbers are published by sink is the choice of the environment; what is published
// by service and by reason is everything, in each choice.
func TestMetricsBySinkAreThoseOfTheChoice(t *testing.T) {
	t.Parallel()
	for _, choice := range []string{"", "failing", "all", "none", "top:1"} {
		t.Run("choice "+choice, func(t *testing.T) {
			t.Parallel()
			var l lines
			o := onRedis(t)
			o.Env["BACKSTOP_SINK_METRICS"], o.Output, o.Journal = choice, l.add, local.TemporaryJournal
			s := start(t, o)
			for sink, n := range map[string]int{"webhook-demo": 2, "webhook-gone": 3, "webhook-down": 1} {
				for i := range n {
					if a := send(t, s, sink, fmt.Sprint("m", i), "x"); a.status != http.StatusOK && a.status != http.StatusAccepted {
						t.Fatalf("%s: %d %s", sink, a.status, a.raw)
					}
				}
			}
			if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
				t.Fatalf("replay: %s", res.Payload)
			}
			eventually(t, "the tick's metrics", func() error {
				if l.published(t)[""]["ReplayRuns"] == 0 {
					return errors.New("none yet")
				}
				return nil
			})
			got := l.published(t)
			for by, want := range map[string]map[string]float64{
				"":                 {"Delivered": 2, "DeadLettered": 4, "Attempts": 2 + 3 + 2, "ReplayRuns": 1, "DLQDepth": 4},
				"Reason terminal":  {"DeadLettered": 3},
				"Reason exhausted": {"DeadLettered": 1},
			} {
				for name, v := range want {
					if got[by][name] != v {
						t.Errorf("by %q: %s is %v, want %v", by, name, got[by][name], v)
					}
				}
			}
			well, gone, down := got["Sink webhook-demo"], got["Sink webhook-gone"], got["Sink webhook-down"]
			switch choice {
			case "all":
				if diff := cmp.Diff(ofHealthySinks, slices.Sorted(maps.Keys(well))); diff != "" {
					t.Errorf("of a sink that is well (-want +got)\n%s", diff)
				}
				if gone["Attempts"] != 3 || gone["DeadLettered"] != 3 || down["DLQDepth"] != 1 {
					t.Errorf("gone %v, down %v, want everything", gone, down)
				}
			case "", "failing":
				if len(well) > 0 || gone["DeadLettered"] != 3 || gone["DLQDepth"] != 3 || gone["DLQOldestAge"] <= 0 || down["DeadLettered"] != 1 {
					t.Errorf("well %v, gone %v, down %v, want what fails", well, gone, down)
				}
				if _, ok := gone["Attempts"]; ok {
					t.Errorf("gone %v, want no success by sink", gone)
				}
			case "top:1":
				if len(well)+len(down) > 0 || gone["DLQDepth"] != 3 || gone["DeadLettered"] != 0 {
					t.Errorf("well %v, gone %v, down %v, want the deepest as the schedule sees it", well, gone, down)
				}
			}
			for by := range got {
				if choice == "none" && strings.HasPrefix(by, "Sink ") {
					t.Errorf("by %s: %v, want none", by, got[by])
				}
			}
		})
	}
	page, err := os.ReadFile("../docs/deploy.md")
	if want := fmt.Sprintf("%d names (`%s`)", len(ofHealthySinks), strings.Join(ofHealthySinks, "`, `")); err != nil || !strings.Contains(string(page), want) {
		t.Errorf("docs/deploy.md does not say what a sink that is well has, %s: %v", want, err)
	}
}

// Lines of plain successes are sampled: all of a delivery, or none. Each other line is there, and the
// metrics count everything.
func TestOnlyLinesOfPlainSuccessesAreSampled(t *testing.T) {
	t.Parallel()
	const in, n, tried = 4, 24, "tried-often"
	if observe.Sample(in).Takes(tried) {
		t.Fatal("take an id that is not in the sample")
	}
	var l lines
	o := onRedis(t)
	o.Env["BACKSTOP_LOG_SUCCESSES"], o.Output = fmt.Sprintf("1/%d", in), l.add
	s := start(t, o)
	of := func(id string) (found []map[string]any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, line := range l.all {
			_, line, _ = strings.Cut(line, " | ")
			var doc map[string]any
			if json.Unmarshal([]byte(line), &doc) == nil && doc["message"] == "delivery" && doc["delivery_id"] == id {
				found = append(found, doc)
			}
		}
		return found
	}
	body := func(id, sink string) string {
		return fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"subject":"test","body":"x"}}`, id, sink)
	}
	// Accepted, delivered, and answered again: three lines of a delivery that is in the sample, none of another.
	for i := range n {
		id := fmt.Sprint("good-", i)
		if a := call(t, s, http.MethodPost, "/v1/messages", body(id, "webhook-demo"), "Prefer", "respond-async"); a.status != http.StatusAccepted {
			t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	for i := range n {
		id := fmt.Sprint("good-", i)
		eventually(t, id+" arrives", func() error {
			if a := call(t, s, http.MethodGet, "/v1/deliveries?sink=webhook-demo&id="+id, ""); a.text("status") != "delivered" {
				return errors.New(a.raw)
			}
			return nil
		})
		if a := send(t, s, "webhook-demo", id, "x"); a.body["duplicate"] != true || a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	// Failures, of more deliveries than the sample would take.
	for i := range 2 * in {
		for _, sink := range []string{"webhook-gone", "no-such-sink"} {
			send(t, s, sink, fmt.Sprint(sink, i), "x")
		}
		id := fmt.Sprint("back-", i)
		call(t, s, http.MethodDelete, "/v1/deliveries?sink=webhook-demo&id="+id, "")
		send(t, s, "webhook-demo", id, "x")
	}
	// One that arrives at its third attempt only.
	if a := send(t, s, "webhook-flaky", tried, "x"); a.status != http.StatusOK || a.number("attempts") != 3 {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	eventually(t, "the last lines, and that of a delivery that needed more than one attempt", func() error {
		if got := of(tried); len(got) != 1 || got[0]["weight"] != nil || l.published(t)[""]["Canceled"] != 2*in {
			return errors.New("not there yet")
		}
		return nil
	})
	taken := 0
	for i := range n {
		id := fmt.Sprint("good-", i)
		got := of(id)
		if !observe.Sample(in).Takes(id) {
			if len(got) > 0 {
				t.Errorf("%s: %v, want no line", id, got)
			}
			continue
		}
		taken++
		if len(got) != 3 {
			t.Errorf("%s: %d lines, want those of its acceptance, its delivery and its second call: %v", id, len(got), got)
		}
		for _, line := range got {
			if line["weight"] != float64(in) {
				t.Errorf("%v, want the weight %d", line, in)
			}
		}
	}
	if taken == 0 || taken == n {
		t.Fatalf("%d of %d are in the sample: the test shows nothing", taken, n)
	}
	for i := range 2 * in {
		for id, status := range map[string]string{fmt.Sprint("webhook-gone", i): "dead_lettered", fmt.Sprint("no-such-sink", i): "handed_back", fmt.Sprint("back-", i): "canceled"} {
			if got := of(id); len(got) != 1 || got[0]["status"] != status || got[0]["weight"] != nil {
				t.Errorf("%s: %v, want its one line, %s, that stands for itself", id, got, status)
			}
		}
	}
	eventually(t, "what has no line of its own is counted", func() error {
		if total, got := float64(3*(n-taken)), l.unlogged(); got != total {
			return fmt.Errorf("%v deliveries, want %v", got, total)
		}
		return nil
	})
	got := l.published(t)[""]
	if got["Delivered"] < n || got["DeadLettered"] != 2*in || got["Accepted"] != n {
		t.Errorf("%v, want metrics of all", got)
	}
}
