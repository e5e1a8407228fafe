package await

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// failed keeps what a test was failed with.
type failed struct {
	testing.TB
	text string
}

func (f *failed) Helper() {}

func (f *failed) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestWhatComesIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		Nil(t, "the time comes", func() error {
			if time.Since(start) < patience-every {
				return errors.New("too early")
			}
			return nil
		})
		if got := time.Since(start); got != patience-every {
			t.Errorf("waited %s, want %s", got, patience-every)
		}
		start = time.Now()
		True(t, "it is there", func() bool { return true })
		if got := time.Since(start); got != 0 {
			t.Errorf("waited %s for what is there", got)
		}
	})
}

func TestWhatNeverComesFailsTheTestWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failed{TB: t}
		n := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			Nil(f, "it comes", func() error { n++; return fmt.Errorf("look %d", n) })
		}()
		<-done
		if want := fmt.Sprintf("it comes: look %d", n); !strings.HasSuffix(f.text, want) || n < 1000 {
			t.Errorf("failed with %q after %d looks, want %q", f.text, n, want)
		}
	})
}

func TestTheNextMillisecondIsLater(t *testing.T) {
	for range 20 {
		before := time.Now().UnixMilli()
		Millisecond()
		if after := time.Now().UnixMilli(); after <= before {
			t.Fatalf("%d after %d", after, before)
		}
	}
}
