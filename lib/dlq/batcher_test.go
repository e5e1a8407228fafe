package dlq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// slow takes a second for each batch and notes its size. Items named "bad" are refused.
type slow struct {
	dlq.Store
	mu    sync.Mutex
	sizes []int
}

var errBad = errors.New("refused")

func (s *slow) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	s.mu.Lock()
	s.sizes = append(s.sizes, len(items))
	s.mu.Unlock()
	errs := make([]error, len(items))
	var ended error
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		ended = ctx.Err()
	}
	for i, it := range items {
		errs[i] = ended
		if it.DeliveryID == "bad" {
			errs[i] = errBad
		}
		items[i].ID = "stored~" + it.DeliveryID
	}
	return items, errs
}

func TestPushesThatComeTogetherGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		b := dlq.NewBatcher(s)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				if i == 7 {
					id = "bad"
				}
				it, err := b.Add(t.Context(), dlq.Item{Sink: "ops", DeliveryID: id})
				if id == "bad" && !errors.Is(err, errBad) || id != "bad" && (err != nil || it.ID != "stored~"+id) {
					t.Errorf("%s: got %q, %v", id, it.ID, err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if want := []int{1, 9}; !slices.Equal(s.sizes, want) {
			t.Errorf("batches of %v, want %v: the first at once, the others together", s.sizes, want)
		}
	})
}

func TestAPushIsNotEndedByItsNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := dlq.NewBatcher(&slow{})
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Push(t.Context(), dlq.Item{Sink: "ops", DeliveryID: "first"}) })
		synctest.Wait()
		for i, timeout := range []time.Duration{1500 * time.Millisecond, time.Minute} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				_, err := b.Add(ctx, dlq.Item{Sink: "ops", DeliveryID: fmt.Sprint(i)})
				if i == 0 && sinks.CodeOf(err) != sinks.CodeDLQUnavailable {
					t.Errorf("the one without time got %v, want SINK_DLQ_UNAVAILABLE", err)
				}
				if i == 1 && err != nil {
					t.Errorf("its neighbour got %v", err)
				}
			})
		}
		wg.Wait()
	})
}
