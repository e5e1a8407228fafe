package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
)

// refusing is a queue that supersedes nothing.
type refusing struct {
	dlq.Store
	err error
}

func (r refusing) Supersede(context.Context, dlq.Succession) (dlq.Leased, error) {
	return dlq.Leased{}, r.err
}

// lost loses the cache, brings back what the journal has, and returns what is due then, and what waits superseded.
func lost(t *testing.T, s *shelf) (due, superseded []string) {
	t.Helper()
	cache := dlq.NewMemory(dlq.WithJournal())
	k := &journal.Keeper{Queue: cache, Bucket: s, Log: slog.New(slog.DiscardHandler)}
	for _, sink := range []string{"ops", "other"} {
		var step journal.RestoreStep
		for done := false; !done; {
			p, err := k.Restore(t.Context(), sink, step)
			if err != nil {
				t.Fatal(err)
			}
			step.After, done = p.After, p.Done
		}
	}
	page, err := cache.Page(t.Context(), dlq.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range page.Items {
		switch state := it.State(time.Now()); {
		case state == dlq.StateDue:
			due = append(due, it.Message.Body)
		case state == dlq.StateWaiting && it.SupersededBy != "":
			superseded = append(superseded, it.SupersededBy)
		default:
			t.Errorf("%s is %s after the loss", it.ID, state)
		}
	}
	return due, superseded
}

func TestALossRevivesNothingThatIsSuperseded(t *testing.T) {
	gone := errors.New("the process is gone")
	for _, sink := range []string{"ops", "other"} {
		for _, tt := range []struct {
			name       string
			bucket     error // of the write of its state
			queue      error
			dies       bool // after that
			ticks      bool // before the loss
			due        []string
			superseded bool
		}{
			{name: "at once", superseded: true},
			{name: "once the journal has all", ticks: true, due: []string{"repaired"}, superseded: true},
			{name: "the journal is away", bucket: gone, due: []string{"hello"}},
			{name: "the queue refuses", queue: gone, due: []string{"hello"}},
			{name: "the process dies before the queue has it", queue: gone, dies: true, superseded: true},
		} {
			t.Run(sink+" "+tt.name, func(t *testing.T) {
				q, inner, s, all := full(t, 1)
				if tt.queue != nil {
					q = journal.NewQueue(refusing{inner, tt.queue}, s, journal.Options{Log: slog.New(slog.DiscardHandler)})
				}
				l := claim(t, inner, all[0])[0]
				puts := 0
				s.before = func(_ context.Context, call, name string) (error, bool) {
					if !strings.HasPrefix(name, "state/") {
						return nil, true
					}
					puts++
					if tt.bucket != nil || tt.dies && puts > 1 {
						return gone, false
					}
					return nil, true
				}
				it := l.Item
				it.Sink, it.Origin, it.Message.Body = sink, it.ID, "repaired"
				by, err := dlq.Prepare(t.Context(), it)
				if err != nil {
					t.Fatal(err)
				}
				got, err := q.Supersede(t.Context(), dlq.Succession{Lease: l.Lease, By: by, TTL: time.Minute})
				if (err != nil) != (tt.bucket != nil || tt.queue != nil) {
					t.Fatalf("Supersede = %v", err)
				}
				if tt.bucket != nil {
					if !errors.Is(err, dlq.ErrJournal) || fault.CodeOf(err) != fault.CodeDLQUnavailable {
						t.Errorf("Supersede = %v, want ErrJournal", err)
					}
					if old, err := inner.Get(t.Context(), it.ID); err != nil || old.SupersededBy != "" {
						t.Errorf("it is superseded by %q, %v", old.SupersededBy, err)
					}
				}
				s.before = nil
				if tt.ticks {
					k := &journal.Keeper{Queue: inner, Bucket: s, Log: slog.New(slog.DiscardHandler)}
					for _, name := range []string{"ops", sink} {
						if _, err := k.Tick(t.Context(), name); err != nil {
							t.Fatal(err)
						}
					}
				}
				due, superseded := lost(t, s)
				if !slices.Equal(due, tt.due) || (len(superseded) == 1) != tt.superseded {
					t.Errorf("due: %q, superseded by: %q; want %q due, superseded: %t", due, superseded, tt.due, tt.superseded)
				}
				if tt.ticks && fmt.Sprint(superseded) != fmt.Sprint([]string{got.ID}) {
					t.Errorf("superseded by %q, want %s", superseded, got.ID)
				}
			})
		}
	}
}
