package replay

import (
	"context"
	"testing"
)

// Nobody takes a slot when his time is over, free or not, and none is lost by trying.
func TestNoSlotIsTakenWhenTimeIsOver(t *testing.T) {
	s := make(slots, 1)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if s.take(over) {
			t.Fatal("a slot was taken after its time")
		}
	}
	if !s.take(t.Context()) {
		t.Error("no slot is left")
	}
}
