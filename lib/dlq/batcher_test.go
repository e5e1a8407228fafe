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
	"backstop/lib/fault"
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
				if i == 0 && fault.CodeOf(err) != fault.CodeDLQUnavailable {
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

// frozen does not notice that its first push's context has ended until an hour later, as
// in a process that was frozen with it.
type frozen struct {
	dlq.Store
	mu     sync.Mutex
	pushed []string
}

func (s *frozen) AddBatch(_ context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	s.mu.Lock()
	first := len(s.pushed) == 0
	for _, it := range items {
		s.pushed = append(s.pushed, it.DeliveryID)
	}
	s.mu.Unlock()
	if first {
		time.Sleep(time.Hour)
	}
	return items, make([]error, len(items))
}

// A push that was under way when an invocation answered, and the process was frozen, holds
// up none of the next invocation's. What had not even begun is not pushed any more: its
// caller was told to keep it.
func TestAPushThatWasLeftBehindHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &frozen{}
		b := dlq.NewBatcher(s)
		push := func(id string, timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			return b.Push(ctx, dlq.Item{Sink: "ops", DeliveryID: id})
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := push("left-behind", time.Second); fault.CodeOf(err) != fault.CodeDLQUnavailable {
				t.Errorf("a push without an answer: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := push("given-up", 500*time.Millisecond); fault.CodeOf(err) != fault.CodeDLQUnavailable {
				t.Errorf("a push behind it: %v", err)
			}
		})
		wg.Go(func() { // goes on when everybody has left the first
			if err := push("behind-it", 1500*time.Millisecond); err != nil {
				t.Errorf("a push that has time left: %v", err)
			}
		})
		wg.Wait()
		time.Sleep(30 * time.Minute)
		start := time.Now()
		for _, id := range []string{"next", "after-next"} {
			if err := push(id, time.Second); err != nil || time.Since(start) != 0 {
				t.Errorf("%s: %v after %s", id, err, time.Since(start))
			}
		}
		time.Sleep(time.Hour) // it ends
		if err := push("last", time.Second); err != nil {
			t.Error(err)
		}
		if want := []string{"left-behind", "behind-it", "next", "after-next", "last"}; !slices.Equal(s.pushed, want) {
			t.Errorf("pushed %v, want %v", s.pushed, want)
		}
	})
}
