package dlq_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// successionOf is what supersedes a leased dead letter in a sink.
func successionOf(t *testing.T, l dlq.Leased, sink, body string) dlq.Succession {
	t.Helper()
	it := l.Item
	it.Sink, it.Origin, it.Message.Body = sink, it.ID, body
	by, err := dlq.Prepare(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	return dlq.Succession{Lease: l.Lease, By: by, TTL: time.Minute}
}

// dies ends the process at its n-th command, whose answer nobody hears, whether or not it is carried out.
func (f *faults) dies(n int64, carriedOut bool, end func()) {
	var calls atomic.Int64
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = func(_ context.Context, _ string, send func() error) error {
		switch at := calls.Add(1); {
		case at < n:
			return send()
		case at == n && carriedOut:
			_ = send()
		}
		end()
		return errors.New("the process is dead")
	}
}

func (f *faults) live() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = nil
}

// runOutAll lets the time of every lease of the sinks run out.
func runOutAll(t *testing.T, c redis.UniversalClient, prefix string, sinks ...string) {
	t.Helper()
	for _, sink := range sinks {
		queue := "{" + prefix + ":dlq:" + sink + "}:"
		ids, err := c.HKeys(t.Context(), queue+"lease").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := c.ZAddXX(t.Context(), queue+"due", redis.Z{Score: float64(time.Now().UnixMilli() - 1), Member: id}).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// sendable returns what the schedule may send: what is due in either sink, but for a successor that cannot be noted.
func sendable(t *testing.T, s dlq.Store) (ids []string) {
	t.Helper()
	for _, sink := range []string{"mail", "slack"} {
		leased, err := s.Claim(t.Context(), dlq.Claim{Sink: sink, Limit: 10, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leased {
			if sink == "slack" {
				if noted, err := s.NoteSuperseded(t.Context(), l.Item); err != nil {
					t.Fatal(err)
				} else if !noted {
					continue
				}
			}
			ids = append(ids, l.ID)
		}
	}
	return ids
}

func TestWhoeverDiesWhileItSupersedesLeavesOneThatIsSentAtMost(t *testing.T) {
	clean := redistest.Shared(t).Client(t)
	for sink, calls := range map[string]int64{"mail": 1, "slack": 4} {
		for _, carriedOut := range []bool{false, true} {
			for n := range calls {
				t.Run(fmt.Sprintf("%s %d %t", sink, n+1, carriedOut), func(t *testing.T) {
					f, s := faulty(t)
					it := mustAdd(t, s, message("mail", "a"))
					of := successionOf(t, claimed(t, s, it.ID), sink, "repaired")
					ctx, end := context.WithCancel(t.Context())
					f.dies(n+1, carriedOut, end)
					_, err := s.Supersede(ctx, of)
					f.live()
					if err == nil {
						t.Fatal("it did not come to that")
					}

					// The schedule comes by, sooner or later.
					runOutAll(t, clean, s.prefix, "mail", "slack")
					old, err := s.Get(t.Context(), it.ID)
					if err != nil {
						t.Fatal(err)
					}
					ids := sendable(t, s)
					if len(ids) > 1 || old.SupersededBy == "" && len(ids) == 0 {
						t.Fatalf("the schedule may send %v; the old one is superseded by %q", ids, old.SupersededBy)
					}
					if len(ids) == 1 && ids[0] == it.ID && old.SupersededBy != "" {
						t.Fatal("the schedule sends what is superseded")
					}

					// The request is made again.
					runOutAll(t, clean, s.prefix, "mail", "slack")
					if old, err = s.Get(t.Context(), it.ID); err != nil {
						t.Fatal(err)
					}
					by, err := dlq.FinishSuperseding(t.Context(), s, old)
					if err != nil {
						t.Fatal(err)
					}
					if by == "" {
						l, err := s.Supersede(t.Context(), successionOf(t, claimed(t, s, it.ID), sink, "repaired"))
						if err != nil {
							t.Fatal(err)
						}
						by = l.ID
					}
					if old, err = s.Get(t.Context(), it.ID); err != nil || old.SupersededBy != by {
						t.Errorf("the old one is superseded by %q, %v; want %s", old.SupersededBy, err, by)
					}
					if p, err := s.Page(t.Context(), dlq.Query{}); err != nil || len(p.Items) != 2 {
						t.Errorf("%d dead letters, %v; want 2", len(p.Items), err)
					}
				})
			}
		}
	}
}

func TestALostReplySupersedesOnce(t *testing.T) {
	for _, sink := range []string{"mail", "slack"} {
		f, s := faulty(t)
		it := mustAdd(t, s, message("mail", "a"))
		leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, TTL: time.Minute})
		if err != nil || len(leased) != 1 {
			t.Fatal(err)
		}
		f.loseReplies()
		by, err := s.Supersede(t.Context(), successionOf(t, leased[0], sink, "repaired"))
		f.live()
		if err != nil || by.Token != leased[0].Token {
			t.Errorf("Supersede = %+v, %v", by, err)
		}
		if p, err := s.Page(t.Context(), dlq.Query{}); err != nil || len(p.Items) != 2 {
			t.Errorf("%d dead letters, %v; want 2", len(p.Items), err)
		}
	}
}

func TestASuccessorThatCameTooLateIsNotSent(t *testing.T) {
	clean := redistest.Shared(t).Client(t)
	f, s := faulty(t)
	it := mustAdd(t, s, message("mail", "a"))
	late := successionOf(t, claimed(t, s, it.ID), "slack", "late")
	var calls atomic.Int64
	f.mu.Lock()
	f.fate = func(_ context.Context, name string, send func() error) error {
		if name == "sadd" || calls.Add(1) != 2 {
			return send()
		}
		// It waited between its first step and its second for longer than its lease.
		runOutAll(t, clean, s.prefix, "mail")
		f.live()
		other, err := s.Supersede(t.Context(), successionOf(t, claimed(t, s, it.ID), "slack", "in time"))
		if err != nil {
			t.Error(err)
		}
		if err := s.Release(t.Context(), []dlq.Lease{other.Lease}); err != nil {
			t.Error(err)
		}
		return send()
	}
	f.mu.Unlock()
	_, err := s.Supersede(t.Context(), late)
	if !errors.Is(err, dlq.ErrSuperseded) || fault.CodeOf(err) != fault.CodeInvalidArgument {
		t.Errorf("the late one: %v, want ErrSuperseded", err)
	}
	runOutAll(t, clean, s.prefix, "mail", "slack")
	ids := sendable(t, s)
	if len(ids) != 1 {
		t.Fatalf("%v may be sent, want one", ids)
	}
	if by, err := s.Get(t.Context(), ids[0]); err != nil || by.Message.Body != "in time" {
		t.Errorf("%+v, %v may be sent", by, err)
	}
}

// What was about to supersede it is known by its content: another, of the same sink and origin, must not be sent.
func TestOnlyWhatWasAboutToSupersedeItIsSent(t *testing.T) {
	noted := 0
	for n := range int64(4) {
		f, s := faulty(t)
		it := mustAdd(t, s, message("mail", "a"))
		leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, Quiet: true, TTL: time.Minute})
		if err != nil || len(leased) != 1 {
			t.Fatalf("Claim = %d, %v", len(leased), err)
		}
		ctx, end := context.WithCancel(t.Context())
		f.dies(n+1, true, end)
		_, _ = s.Supersede(ctx, successionOf(t, leased[0], "slack", "meant"))
		f.live()
		if depth(t, s, "slack") > 0 {
			break // it was pushed: the cases before it are those that count
		}
		if old, err := s.Get(t.Context(), it.ID); err != nil || old.SupersededBy == "" {
			continue
		}
		noted++
		for _, body := range []string{"another", "meant"} {
			by := message("slack", "a")
			by.Origin, by.Message.Body = it.ID, body
			got, err := s.NoteSuperseded(t.Context(), mustAdd(t, s, by))
			if want := body == "meant"; err != nil || got != want {
				t.Errorf("NoteSuperseded by what is %s = %t, %v; want %t", body, got, err, want)
			}
		}
	}
	if noted == 0 {
		t.Error("nobody died with it noted and not pushed")
	}
}

// claimed is a dead letter of mail that is claimed.
func claimed(t *testing.T, s dlq.Store, id string) dlq.Leased {
	t.Helper()
	leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{id}, Quiet: true, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim = %d, %v", len(leased), err)
	}
	return leased[0]
}
