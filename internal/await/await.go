// Package await waits in tests for what another process or goroutine does, where nothing
// says that it was done. Where a channel or testing/synctest can say so, use those.
package await

import (
	"errors"
	"testing"
	"time"
)

const (
	// patience is long enough for a machine that is busy with other tests.
	patience = 30 * time.Second
	every    = 5 * time.Millisecond
)

var errNotYet = errors.New("not yet")

// Nil calls check until it returns nil. After 30 s it fails the test with what, which says
// what should have come, and with check's last error. It belongs to the test's own
// goroutine, as tb.Fatalf does.
func Nil(tb testing.TB, what string, check func() error) {
	tb.Helper()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		<-ticker.C
	}
}

// True is Nil for a check without an error.
func True(tb testing.TB, what string, check func() bool) {
	tb.Helper()
	Nil(tb, what, func() error {
		if check() {
			return nil
		}
		return errNotYet
	})
}

// Millisecond waits for the wall clock's next millisecond. What a server on this machine
// stores from then on has a later time than all that it stored before.
func Millisecond() {
	next := time.Now().Truncate(time.Millisecond).Add(time.Millisecond)
	for time.Now().Before(next) {
		<-time.After(time.Until(next))
	}
}
