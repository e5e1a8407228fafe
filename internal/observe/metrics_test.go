package observe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/observe"
)

type emf struct {
	Level string `json:"level"`
	AWS   struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
	Service, Sink, Reason string
}

func flush(t *testing.T, m *observe.Metrics) (docs []emf, raw []map[string]any) {
	t.Helper()
	var b bytes.Buffer
	if err := m.Flush(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		var d emf
		var r map[string]any
		if err := errors.Join(json.Unmarshal([]byte(line), &d), json.Unmarshal([]byte(line), &r)); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		docs, raw = append(docs, d), append(raw, r)
	}
	return docs, raw
}

func TestMetricsArePublishedUnderTheirDimensions(t *testing.T) {
	m := observe.NewMetrics("svc", choose(t, "all"))
	m.Add(observe.Delivered, "ops", 1)
	m.Add(observe.Delivered, "ops", 2)
	m.Add(observe.AttemptLatency, "ops", 5)
	m.Add(observe.AttemptLatency, "ops", 7)
	m.AddReason(observe.DeadLettered, "ops", "terminal", 1)
	m.Add(observe.ConfigAge, "", 9)
	m.Add(observe.Delivered, "other", 4)
	docs, raw := flush(t, m)
	if len(docs) != 4 {
		t.Fatalf("%d lines, want one each for the service, the two sinks and the reason: %v", len(docs), raw)
	}
	for i, want := range []struct {
		sink, reason, dimensions string
	}{
		{"", "", "[[Service]]"},
		{"", "terminal", "[[Service Reason]]"},
		{"ops", "", "[[Service] [Service Sink]]"},
		{"other", "", "[[Service] [Service Sink]]"},
	} {
		d := docs[i]
		if d.Level == "" || d.AWS.Timestamp == 0 || d.AWS.CloudWatchMetrics[0].Namespace != "Backstop" || d.Service != "svc" {
			t.Errorf("line %d lacks level, timestamp, namespace or service: %v", i, raw[i])
		}
		b, _ := json.Marshal(d.AWS.CloudWatchMetrics[0].Dimensions)
		got := strings.NewReplacer(`"`, "", ",", " ").Replace(string(b))
		if d.Sink != want.sink || d.Reason != want.reason || got != want.dimensions {
			t.Errorf("line %d: sink %q, reason %q, dimensions %s; want %q, %q, %s", i, d.Sink, d.Reason, got, want.sink, want.reason, want.dimensions)
		}
		for _, def := range d.AWS.CloudWatchMetrics[0].Metrics {
			if _, ok := raw[i][def.Name]; !ok || def.Unit == "" {
				t.Errorf("line %d declares %s (%q) without a value", i, def.Name, def.Unit)
			}
		}
	}
	if raw[2]["Delivered"] != 3.0 {
		t.Errorf("counts are summed up: Delivered = %v, want 3", raw[2]["Delivered"])
	}
	if b, _ := json.Marshal(raw[2]["AttemptLatency"]); string(b) != "[5,7]" {
		t.Errorf("other units keep their values: AttemptLatency = %s, want [5,7]", b)
	}
	if docs, _ := flush(t, m); len(docs) != 0 {
		t.Errorf("a second flush wrote %d lines, want none", len(docs))
	}
}

func TestAMetricNeverHasMoreValuesThanEMFTakes(t *testing.T) {
	m := observe.NewMetrics("svc", choose(t, "all"))
	for range 250 {
		m.Add(observe.AttemptLatency, "ops", 1)
	}
	_, raw := flush(t, m)
	values, ok := raw[0]["AttemptLatency"].([]any)
	if !ok || len(values) != 100 {
		t.Errorf("%d values, want 100", len(values))
	}
}

// What is of the service is published as it is with a line of its own: by service alone, in each choice.
func TestAnInvocationWithOneSinkWritesOneLine(t *testing.T) {
	for choice, want := range map[string]map[string]float64{
		"none": {}, "failing": {"DeadLettered ops": 1}, "all": {"Delivered ops": 2, "DeadLettered ops": 1},
	} {
		m := observe.NewMetrics("svc", choose(t, choice))
		add := func(sinks ...string) {
			for _, sink := range sinks {
				m.Add(observe.Delivered, sink, 2)
			}
			m.AddReason(observe.DeadLettered, sinks[0], "terminal", 1)
			m.Add(observe.ConfigAge, "", 9)
			m.Add(observe.ColdStarts, "", 1)
		}
		add("ops")
		maps.Copy(want, map[string]float64{"Delivered": 2, "DeadLettered": 1, "DeadLettered terminal": 1, "ConfigAge": 9, "ColdStarts": 1})
		if diff := cmp.Diff(want, published(t, m)); diff != "" {
			t.Errorf("%s: one sink (-want +got)\n%s", choice, diff)
		}
		add("ops")
		if docs, raw := flush(t, m); len(docs) != 2 || docs[1].Sink != "ops" || raw[1]["ConfigAge"] != 9.0 {
			t.Errorf("%s: %v, want one line, and that of the reason", choice, raw)
		}
		add("ops", "mail")
		if docs, raw := flush(t, m); len(docs) != 4 || docs[0].Sink != "" || raw[0]["ConfigAge"] != 9.0 {
			t.Errorf("%s: %v, want a line of the service, one of the reason and two of sinks", choice, raw)
		}
	}
}

// A number that the service has of its own and of its sink stays two numbers.
func TestTheSameMetricOfServiceAndSinkIsNotMixed(t *testing.T) {
	m := observe.NewMetrics("svc", choose(t, "failing"))
	m.AddReason(observe.HandedBack, "", "SINK_NOT_FOUND", 1)
	m.AddReason(observe.HandedBack, "ops", "NOT_ATTEMPTED", 2)
	want := map[string]float64{"HandedBack": 3, "HandedBack ops": 2, "HandedBack SINK_NOT_FOUND": 1, "HandedBack NOT_ATTEMPTED": 2}
	if diff := cmp.Diff(want, published(t, m)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatHasNoLineOfItsOwnIsOnThatOfItsSink(t *testing.T) {
	m := observe.NewMetrics("svc", choose(t, "failing"))
	for i, took := range []time.Duration{7 * time.Millisecond, 30 * time.Millisecond, 2 * time.Millisecond} {
		m.Add(observe.Delivered, "ops", 1)
		m.Unlogged("ops", took)
		if i == 0 {
			m.Add(observe.Accepted, "mail", 1)
			m.Unlogged("mail", took)
		}
	}
	m.AddReason(observe.DeadLettered, "ops", "terminal", 1)
	m.AddReason(observe.DeadLettered, "down", "terminal", 1)
	_, raw := flush(t, m)
	got := map[string]string{}
	for _, line := range raw {
		if u, ok := line["unlogged"]; ok {
			got[fmt.Sprint(line["Sink"])] = fmt.Sprint(u)
		}
	}
	want := map[string]string{"ops": "map[deliveries:3 elapsed_ms:39 longest_ms:30]", "mail": "map[deliveries:1 elapsed_ms:7 longest_ms:7]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	m.Add(observe.Delivered, "ops", 1)
	if _, raw := flush(t, m); raw[0]["unlogged"] != nil {
		t.Errorf("%v, want it told once", raw)
	}
}
