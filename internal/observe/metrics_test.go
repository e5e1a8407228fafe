package observe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

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
	docs, raw := flush(t, m)
	if len(docs) != 3 {
		t.Fatalf("%d lines, want one each for the service, the sink and the reason: %v", len(docs), raw)
	}
	for i, want := range []struct {
		sink, reason, dimensions string
	}{
		{"", "", "[[Service]]"},
		{"", "terminal", "[[Service Reason]]"},
		{"ops", "", "[[Service] [Service Sink]]"},
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
