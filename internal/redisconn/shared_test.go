package redisconn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/fault"
)

// server answers calls without a network: with their first argument, or as fault says.
type server struct {
	// held, of calls made alone, and stuck, of pipelines, are waited for. Nil: nothing is.
	held, stuck chan struct{}
	fault       func(arg string) error

	mu    sync.Mutex
	made  []string // arguments, and those of a pipeline with a space between
	tries map[string]int
}

func (s *server) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
}

// argument is that of EVALSHA sha 1 key arg.
func argument(cmd redis.Cmder) string { return fmt.Sprint(cmd.Args()[4]) }

func (s *server) answer(cmd redis.Cmder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries == nil {
		s.tries = map[string]int{}
	}
	s.tries[argument(cmd)]++
	if s.fault != nil {
		if err := s.fault(argument(cmd)); err != nil {
			cmd.SetErr(err)
			return err
		}
	}
	c, ok := cmd.(*redis.Cmd)
	if !ok {
		return fmt.Errorf("%s is no script", cmd.Name())
	}
	c.SetVal("answer to " + argument(cmd))
	return nil
}

func (s *server) wait(ctx context.Context, until chan struct{}) error {
	if until == nil {
		return nil
	}
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *server) note(args string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, args)
}

// calls are the calls so far.
func (s *server) calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.made)
}

func (s *server) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.note(argument(cmd))
		if err := s.wait(ctx, s.held); err != nil {
			cmd.SetErr(err)
			return err
		}
		return s.answer(cmd)
	}
}

func (s *server) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var args []string
		for _, cmd := range cmds {
			args = append(args, argument(cmd))
		}
		slices.Sort(args)
		s.note(strings.Join(args, " "))
		err := s.wait(ctx, s.stuck)
		for _, cmd := range cmds {
			if err != nil {
				cmd.SetErr(err)
			} else if e := s.answer(cmd); e != nil {
				defer func() { err = e }()
			}
		}
		return err
	}
}

// shared returns a Shared that s answers, without a network.
func shared(t *testing.T, s *server) *redisconn.Shared {
	t.Helper()
	client := redis.NewUniversalClient(redistest.ClientOptions("nowhere:1"))
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(s)
	return redisconn.NewShared(redisconn.New(client, "p", "CODE"), redisconn.Source("return ARGV[1]"))
}

// ask makes a call for each argument at once, behind one that is under way, and returns what they were
// answered and how long that took.
func ask(ctx context.Context, t *testing.T, s *redisconn.Shared, args ...string) (wait func() map[string]string) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[string]string{}
	for _, arg := range args {
		all.Go(func() {
			start := time.Now()
			answer, err := s.Eval(ctx, "ask", redisconn.Call{Keys: []string{"k"}, Args: []any{arg}})
			mu.Lock()
			defer mu.Unlock()
			got[arg] = fmt.Sprintf("%v %s after %s", answer, fault.CodeOf(err), time.Since(start))
		})
		synctest.Wait() // in this order
	}
	return func() map[string]string {
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

func TestCallsThatComeMeanwhileShareARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{held: make(chan struct{})}
		wait := ask(t.Context(), t, shared(t, srv), "a", "b", "c", "d")
		close(srv.held)
		for arg, got := range wait() {
			if want := "answer to " + arg + "  after 0s"; got != want {
				t.Errorf("%s: %q, want %q", arg, got, want)
			}
		}
		if want := []string{"a", "b c d"}; !slices.Equal(srv.calls(), want) {
			t.Errorf("made %q, want %q: a alone at once, and the others together", srv.calls(), want)
		}
	})
}

func TestACallThatComesAloneIsMadeAtOnceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{}
		s := shared(t, srv)
		for _, arg := range []string{"a", "b"} {
			if got := ask(t.Context(), t, s, arg)()[arg]; got != "answer to "+arg+"  after 0s" {
				t.Error(got)
			}
		}
		if want := []string{"a", "b"}; !slices.Equal(srv.calls(), want) {
			t.Errorf("made %q, want %q", srv.calls(), want)
		}
	})
}

// A pipeline is no larger than others are.
func TestAPipelineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, n = 250, 600
		srv := &server{held: make(chan struct{})}
		var args []string
		for i := range 1 + n {
			args = append(args, fmt.Sprint(i))
		}
		wait := ask(t.Context(), t, shared(t, srv), args...)
		close(srv.held)
		if got := wait(); len(got) != 1+n {
			t.Errorf("%d answers", len(got))
		}
		for _, made := range srv.calls() {
			if k := len(strings.Fields(made)); k > most {
				t.Errorf("a pipeline of %d, want at most %d", k, most)
			}
		}
		if len(srv.calls()) != 4 {
			t.Errorf("%d round trips, want the first one and three", len(srv.calls()))
		}
	})
}

// What fails in a pipeline fails alone, for its own reason, after tries of its own.
func TestACallThatFailsInAPipelineFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{held: make(chan struct{})}
		passed := false
		srv.fault = func(arg string) error {
			switch {
			case arg == "bad":
				return answered("WRONGTYPE not a string")
			case arg == "once" && !passed:
				passed = true
				return answered("NOSCRIPT none")
			}
			return nil
		}
		wait := ask(t.Context(), t, shared(t, srv), "a", "b", "bad", "once", "c")
		close(srv.held)
		for arg, got := range wait() {
			want := "answer to " + arg + "  after 0s"
			if arg == "bad" {
				want = "<nil> CODE after 0s"
			}
			if got != want {
				t.Errorf("%s: %q, want %q", arg, got, want)
			}
		}
		if srv.tries["b"] != 1 || srv.tries["c"] != 1 || srv.tries["once"] != 2 {
			t.Errorf("tries %v, want one of each that was answered, and a second of the other", srv.tries)
		}
	})
}

// answered is an error that the server answered.
type answered string

func (e answered) Error() string { return string(e) }
func (answered) RedisError()     {}

func TestACallThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{held: make(chan struct{})} // whoever goes alone hangs
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		s := shared(t, srv)
		first := ask(ctx, t, s, "a")
		others := ask(ctx, t, s, "b", "c")
		time.Sleep(9 * time.Millisecond)
		synctest.Wait()
		if len(srv.calls()) != 1 {
			t.Errorf("made %q, want the others to wait", srv.calls())
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if made := slices.Sorted(slices.Values(srv.calls())); !slices.Equal(made, []string{"a", "b", "c"}) {
			t.Errorf("made %q, want each by itself", srv.calls())
		}
		close(srv.held)
		first()
		for arg, got := range others() {
			if want := "answer to " + arg + "  after 11ms"; got != want {
				t.Errorf("%s: %q, want %q", arg, got, want)
			}
		}
	})
}

// A pipeline that is not answered costs a first try, and leaves time for a second one.
func TestAPipelineThatIsNotAnsweredIsRepeatedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{held: make(chan struct{}), stuck: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		wait := ask(ctx, t, shared(t, srv), "a", "b", "c")
		close(srv.held)
		for arg, got := range wait() {
			want := "answer to " + arg + "  after 250ms"
			if arg == "a" {
				want = "answer to a  after 0s"
			}
			if got != want {
				t.Errorf("%s: %q, want %q", arg, got, want)
			}
		}
	})
}

// Whoever leaves before its call was begun can be sure that it is not made.
func TestACallWhoseTimeEndsBeforeItBeginsIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &server{held: make(chan struct{})}
		s := shared(t, srv)
		first := ask(t.Context(), t, s, "a")
		ctx, cancel := context.WithCancel(t.Context())
		gone, stays := ask(ctx, t, s, "gone"), ask(t.Context(), t, s, "stays")
		cancel()
		if got := gone()["gone"]; got != "<nil> CODE after 0s" {
			t.Error(got)
		}
		close(srv.held)
		first()
		stays()
		if want := []string{"a", "stays"}; !slices.Equal(srv.calls(), want) {
			t.Errorf("made %q, want %q", srv.calls(), want)
		}
	})
}

// With a server, on a cluster too, each call gets its own answer.
func TestEachCallThatSharesARoundTripGetsItsOwnAnswer(t *testing.T) {
	clients := map[string]redis.UniversalClient{
		"server": redistest.Start(t).Client(t), "cluster": redistest.StartCluster(t).Client(t),
	}
	_, clients["mini"] = redistest.Mini(t)
	for name, client := range clients {
		s := redisconn.NewShared(redisconn.New(client, "p", "CODE"), redisconn.Source("redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]"))
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				key := fmt.Sprintf("%s:%d", name, i)
				for round := range 3 {
					want := fmt.Sprintf("%s:%d", key, round)
					if got, err := s.Eval(t.Context(), "set", redisconn.Call{Keys: []string{key}, Args: []any{want}}); err != nil || got != want {
						t.Errorf("%s: answered %v, %v", want, got, err)
					}
					if got, err := client.Get(t.Context(), key).Result(); err != nil || got != want {
						t.Errorf("%s: stored %q, %v", want, got, err)
					}
				}
			})
		}
		all.Wait()
	}
}

// A node of a cluster that does not answer makes its own calls fail alone, though others share round trips with them.
func TestANodeThatHangsFailsItsOwnCallsAlone(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.WithConfig("cluster-node-timeout", "60000")) // nobody takes its place
	client := cluster.Client(t)
	s := redisconn.NewShared(redisconn.New(client, "p", "CODE"), redisconn.Source("return KEYS[1]"))
	const calls = 60
	keys, hangs := make([]string, calls), map[string]bool{}
	frozen := cluster.Master(t, "0")
	for i := range keys {
		keys[i] = fmt.Sprint(i)
		hangs[keys[i]] = cluster.Master(t, keys[i]) == frozen
		if _, err := s.Eval(t.Context(), "ask", redisconn.Call{Keys: keys[i : i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	frozen.Freeze(t)
	defer frozen.Thaw(t)
	var all sync.WaitGroup
	for _, key := range keys {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			answer, err := s.Eval(ctx, "ask", redisconn.Call{Keys: []string{key}})
			switch {
			case hangs[key] && fault.CodeOf(err) != "CODE":
				t.Errorf("%s: %v, %v; want an error: its node hangs", key, answer, err)
			case !hangs[key] && answer != key:
				t.Errorf("%s: %v, %v; want it answered: its node is well", key, answer, err)
			}
		})
	}
	all.Wait()
}
