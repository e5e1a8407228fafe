package observe_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/observe"
)

func TestOnlyTheFirstInvocationOfAProcessIsAColdStart(t *testing.T) {
	starts := 0
	for range 3 {
		m := observe.NewMetrics("svc", choose(t, "all"))
		m.Begin()
		_, raw := flush(t, m)
		for _, line := range raw {
			starts++
			if line["ColdStarts"] != 1.0 {
				t.Errorf("ColdStarts = %v, want 1", line["ColdStarts"])
			}
			if v, ok := line["InitTime"].(float64); !ok || v <= 0 {
				t.Errorf("InitTime = %v, want some milliseconds", line["InitTime"])
			}
		}
	}
	if starts != 1 {
		t.Errorf("%d cold starts, want 1", starts)
	}
}

func TestTheDeadlineMarginIsWhatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			took time.Duration
			want float64
		}{{0, 29000}, {28 * time.Second, 1000}, {30 * time.Second, -1000}} {
			ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
			m := observe.NewMetrics("svc", choose(t, "all"))
			time.Sleep(c.took)
			m.End(ctx)
			cancel()
			_, raw := flush(t, m)
			if raw[0]["DeadlineMargin"] != c.want {
				t.Errorf("after %v: DeadlineMargin = %v, want %v", c.took, raw[0]["DeadlineMargin"], c.want)
			}
		}
		m := observe.NewMetrics("svc", choose(t, "all"))
		m.End(t.Context())
		if _, raw := flush(t, m); len(raw) != 0 {
			t.Errorf("without a deadline: %v, want nothing", raw)
		}
	})
}
