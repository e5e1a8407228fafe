package replay_test

import (
	"context"
	"testing"
	"testing/synctest"

	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// miscounting is a store whose count of what is due is wrong.
type miscounting struct{ dlq.Store }

func (s miscounting) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	st, err := s.Store.Stats(ctx, sink)
	st.Remaining = 0
	return st, err
}

func TestAWrongCountHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "m", 4)
		s := run(t, engine(miscounting{store}, configured(replay.Policy{}, sink)), replay.Request{})
		if want := (replay.Counts{Claimed: 4, Delivered: 4}); s.Counts != want {
			t.Errorf("summary %+v, want %+v", s, want)
		}
		if n := depth(t, store, "a"); n != 0 {
			t.Errorf("%d dead letters are left, want 0", n)
		}
	})
}
