package redisconn_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

func TestASecondTryAlwaysFits(t *testing.T) {
	for _, tt := range []struct {
		name       string
		whole, try time.Duration
	}{
		{"no deadline", 0, 2 * time.Second},
		{"a far one", time.Hour, 2 * time.Second},
		{"a quarter", 4 * time.Second, time.Second},
		{"a dead letter's part of the reserve", 750 * time.Millisecond, 250 * time.Millisecond},
		{"a record's", 500 * time.Millisecond, 250 * time.Millisecond},
		{"half of a short one", 100 * time.Millisecond, 50 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.whole > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.whole)
					defer cancel()
				}
				start := time.Now()
				var tries []time.Duration
				err := redisconn.New(nil, "p", "CODE").Do(ctx, "ask", func(ctx context.Context) error {
					began := time.Now()
					<-ctx.Done()
					tries = append(tries, time.Since(began))
					return ctx.Err()
				})
				if fault.CodeOf(err) != "CODE" || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want CODE and the cause", err)
				}
				if len(tries) < 2 || tries[0] != tt.try {
					t.Errorf("tries of %v, want at least two, the first of %s", tries, tt.try)
				}
				want := min(tt.whole, 10*time.Second)
				if tt.whole == 0 {
					want = 10 * time.Second
				}
				if took := time.Since(start); took != want {
					t.Errorf("took %s, want %s", took, want)
				}
			})
		})
	}
}

func TestAnErrorHasTheCodeOfItsStore(t *testing.T) {
	own := &fault.Error{Code: fault.CodeInternal, Msg: "its own"}
	for _, tt := range []struct {
		name         string
		prefix       string
		code, want   fault.Code
		err          error
		tries, atMax int
	}{
		{"a code", "p", fault.CodeDLQUnavailable, fault.CodeDLQUnavailable, io.EOF, 2, 100},
		{"none", "p", "", "", io.EOF, 2, 100},
		{"its own", "p", fault.CodeDLQUnavailable, fault.CodeInternal, own, 1, 1},
		{"a bad prefix", "P", fault.CodeDLQUnavailable, fault.CodeInvalidArgument, io.EOF, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				_, err := redisconn.Ask(t.Context(), redisconn.New(nil, tt.prefix, tt.code), "ask", func(context.Context) (int, error) {
					n++
					return 0, tt.err
				})
				if err == nil || fault.CodeOf(err) != tt.want || n > 0 && !errors.Is(err, tt.err) {
					t.Errorf("got %v, want code %q and its cause", err, tt.want)
				}
				if n < tt.tries || n > tt.atMax {
					t.Errorf("%d tries, want %d to %d", n, tt.tries, tt.atMax)
				}
			})
		})
	}
}

// Other versions and other processes find what is stored by these names.
func TestKeysAreWhatTheyWere(t *testing.T) {
	k := redisconn.New(nil, "p", "").Keys
	record, field := k.Record("s", "d", 24*time.Hour, "13")
	if len(field) != 12 || !strings.HasSuffix(record[0], hex.EncodeToString([]byte(field))) {
		t.Errorf("the field %x is no end of %s", field, record[0])
	}
	got := []string{
		k.Sinks(), k.Companion("s", "due"), k.Claim("s", "t"), k.Counts("s", "o"),
		record[0], record[1], record[3], record[4], record[9], k.Operation("o"), k.Operations(), k.OpenOperations(),
		k.OwedEvents(), k.Ticked(),
	}
	want := []string{
		"p:sinks", "{p:dlq:s}:due", "{p:dlq:s}:claim:t", "{p:dlq:s}:op:o",
		"p:delivery:0cc07939998ca332774fc11c7a038ae5", "p:delivery:{BEHN}:43200000:0", "p:delivery:{BEHN}:43200000:2",
		"p:delivery:{BEHN}:43200000:0:2", "p:delivery:{BEHN}:43200000:2:386", "p:op:o", "p:ops", "p:ops:open",
		"p:events", "p:ticked",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	queue := []string{
		"p:dlq:s", "{p:dlq:s}:meta", "{p:dlq:s}:due", "{p:dlq:s}:lease",
		"{p:dlq:s}:state", "{p:dlq:s}:ids", "{p:dlq:s}:groups", "{p:dlq:s}:kept",
		"{p:dlq:s}:expires", "{p:dlq:s}:generations", "{p:dlq:s}:canceled", "{p:dlq:s}:ended",
		"{p:dlq:s}:unjournaled", "{p:dlq:s}:causes", "{p:dlq:s}:history", "more",
	}
	if got := k.Queue("s", "more"); !reflect.DeepEqual(got, queue) {
		t.Errorf("got  %q\nwant %q", got, queue)
	}
}
