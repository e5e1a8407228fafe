package functions_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"backstop/internal/local"
	"backstop/internal/redistest"
)

// pids notes the processes that a host starts and ends, from what it logs.
type pids struct {
	slog.Handler
	mu      sync.Mutex
	started map[string]int // the newest, by function
	ended   map[int]bool
}

func newPids() *pids {
	return &pids{Handler: slog.DiscardHandler, started: map[string]int{}, ended: map[int]bool{}}
}

// Enabled implements slog.Handler.
func (*pids) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (p *pids) Handle(_ context.Context, r slog.Record) error {
	at := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool { at[a.Key] = a.Value; return true })
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.Message {
	case "process started":
		p.started[at["function"].String()] = int(at["pid"].Int64())
	case "process ended":
		p.ended[int(at["pid"].Int64())] = true
	}
	return nil
}

// terminate sends SIGTERM to the process of a function.
func (p *pids) terminate(t *testing.T, function string) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	pid := p.started[function]
	if pid == 0 || p.ended[pid] {
		t.Fatalf("%s has no process", function)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return pid
}

func (p *pids) alive(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended[pid]
}

// lines collects what functions write.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(f, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f+" | "+line)
}

// index returns where the first line with all parts is, or -1.
func (l *lines) index(parts ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for i, line := range l.all {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue next
			}
		}
		return i
	}
	return -1
}

// terminable starts a stack on a Redis of its own, whose processes can be signalled.
func terminable(t *testing.T, sinks string) (*local.Stack, *pids, *lines, *redistest.Server) {
	t.Helper()
	p, l, server := newPids(), &lines{}, redistest.Start(t)
	s, err := local.Start(context.Background(), local.Options{
		Bin: built(t), RedisURL: server.URL(), Sinks: sinks, Output: l.add, Logger: slog.New(p), Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("the functions said:\n%s", strings.Join(l.all, "\n"))
		}
	})
	return s, p, l, server
}

// connections counts the clients of a server but for the one that asks.
func connections(t *testing.T, server *redistest.Server) int {
	t.Helper()
	list, err := server.Client(t).ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(list) {
		if strings.TrimSpace(line) != "" && !strings.Contains(line, "cmd=client|list") {
			n++
		}
	}
	return n
}

// As the platform does before it takes an idle environment away.
func TestAnIdleFunctionClosesItsConnectionsAtSIGTERM(t *testing.T) {
	t.Parallel()
	s, p, l, server := terminable(t, "")
	for function, use := range map[string]func(){
		local.Send:   func() { send(t, s, "webhook-demo", "m1", "x") },
		local.Replay: func() { invoke(t, s, local.Replay, []byte(`{}`)) },
		local.DLQAPI: func() { call(t, s, "GET", "/v1/dlq/count", "") },
	} {
		use()
		if n := connections(t, server); n == 0 {
			t.Fatalf("%s works without a connection", function)
		}
		if l.index(function+" | ", `"started"`, `"build":{"version":"`, `"go":"`+runtime.Version()+`"`) < 0 {
			t.Errorf("%s does not say which build it is", function)
		}
		pid := p.terminate(t, function)
		eventually(t, function+" closes its connections", func() error {
			if n := connections(t, server); n > 0 {
				return fmt.Errorf("%d left", n)
			}
			return nil
		})
		eventually(t, function+" says so", func() error {
			if l.index(function+" | ", `"stopped"`) < 0 {
				return errors.New("no line")
			}
			return nil
		})
		if !p.alive(pid) {
			t.Errorf("%s ended by itself: the connections may only have gone with it", function)
		}
	}
}

// A delivery that fails after SIGTERM is still kept, and its metrics are written.
func TestADeliveryUnderWayOutlivesSIGTERM(t *testing.T) {
	t.Parallel()
	arrived, gate := make(chan struct{}, 8), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(receiver.Close)
	file := filepath.Join(t.TempDir(), "held.yaml")
	if err := os.WriteFile(file, []byte("kind: webhook\nurl: "+receiver.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, p, l, _ := terminable(t, "file:"+filepath.Dir(file))
	got := make(chan answer, 1)
	go func() { got <- send(t, s, "held", "m1", "x") }()
	<-arrived
	p.terminate(t, local.Send)
	if at := l.index(`"stopped"`); at >= 0 {
		t.Error("stopped with a delivery under way")
	}
	time.AfterFunc(300*time.Millisecond, func() { close(gate) }) // time to go wrong in
	a := <-got
	if a.status != http.StatusAccepted {
		t.Errorf("%d %s, want it kept", a.status, a.raw)
	}
	eventually(t, "the function stops", func() error {
		if l.index(`"stopped"`) < 0 {
			return errors.New("no line")
		}
		return nil
	})
	if metrics, stopped := l.index(`"_aws"`, `"DeadLettered"`), l.index(`"stopped"`); metrics < 0 || metrics > stopped {
		t.Errorf("metrics at line %d, stopped at %d; want them written first", metrics, stopped)
	}
	// A later process finds it.
	if n := call(t, s, "GET", "/v1/dlq/count?sink=held", "").number("count"); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	if n := len(arrived); n != 0 {
		t.Errorf("it arrived %d times more, want once", n)
	}
}

// The local host cannot know of a SIGTERM from elsewhere, and goes on handing events to the
// process: it works, and opens its connections anew.
func TestAFunctionWorksOnWhenItIsUsedAfterSIGTERM(t *testing.T) {
	t.Parallel()
	s, p, l, _ := terminable(t, "")
	use := func(round string, depth int) {
		t.Helper()
		if a := send(t, s, "webhook-gone", round, "x"); a.status != http.StatusAccepted {
			t.Errorf("%s: send: %d %s", round, a.status, a.raw)
		}
		if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
			t.Errorf("%s: replay: %s", round, res.Payload)
		}
		if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != depth {
			t.Errorf("%s: %d dead letters, want %d", round, n, depth)
		}
	}
	use("before", 1)
	for _, f := range []string{local.Send, local.Replay, local.DLQAPI} {
		p.terminate(t, f)
		eventually(t, f+" stops", func() error {
			if l.index(f+" | ", `"stopped"`) < 0 {
				return errors.New("no line")
			}
			return nil
		})
	}
	use("after", 2)
	use("again", 3)
	for _, f := range []string{local.Send, local.Replay, local.DLQAPI} {
		if st := s.Host.Stats(f); st.ColdStarts != 1 || st.Crashes != 0 {
			t.Errorf("%s: %+v, want the one process", f, st)
		}
	}
}
