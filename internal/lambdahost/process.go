package lambdahost

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"backstop/internal/loopback"
)

// termGrace is the time between SIGTERM and SIGKILL for a process that registered an
// extension.
const termGrace = 500 * time.Millisecond

// process is one running function process with its Runtime API.
type process struct {
	fn     Function
	cmd    *exec.Cmd
	pid    int
	out    *os.File         // the write end of the process's output
	mark   string           // a line of this process's own, see drain
	next   chan *invocation // handed to the runtime's request for work
	ready  chan struct{}    // closed at the first such request
	exited chan struct{}    // closed when the process is gone
	read   chan struct{}    // closed when all output was read
	marked chan struct{}    // one value each time mark was read
	term   atomic.Bool      // it wants SIGTERM

	mu       sync.Mutex
	waiting  bool // ready is closed
	current  *invocation
	killed   bool
	initErr  []byte
	tail     []byte
	exitText string
}

// startProcess starts a process; it does not wait for its init.
func startProcess(h *Host, fn Function) (*process, error) {
	if !h.begin() {
		return nil, errClosed
	}
	ln, err := (&net.ListenConfig{}).Listen(h.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		h.wg.Done()
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		ln.Close()
		h.wg.Done()
		return nil, err
	}
	p := newProcess(h, fn, ln.Addr().String(), w)
	started := make(chan error, 1)
	go func() {
		defer h.wg.Done()
		p.run(h, ln, r, started)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	h.opts.Logger.InfoContext(h.ctx, "process started", slog.String("function", fn.Name), slog.Int("pid", p.pid))
	return p, nil
}

// newProcess returns a process that is not started. It finds its Runtime API at addr and
// writes to out.
func newProcess(h *Host, fn Function, addr string, out *os.File) *process {
	id := uuid.NewString()
	p := &process{
		fn:     fn,
		cmd:    exec.CommandContext(h.ctx, fn.Path),
		out:    out,
		mark:   "\x00" + id + "\n",
		next:   make(chan *invocation),
		ready:  make(chan struct{}),
		exited: make(chan struct{}),
		read:   make(chan struct{}),
		marked: make(chan struct{}, 1),
	}
	p.cmd.Env = fn.environ(h.opts, addr, time.Now().UTC().Format("2006/01/02/[")+latest+"]"+strings.ReplaceAll(id, "-", ""))
	p.cmd.Dir = filepath.Dir(fn.Path)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = procAttr()
	p.cmd.WaitDelay = termGrace
	p.cmd.Cancel = func() error {
		if p.term.Load() {
			return terminate(p.cmd.Process)
		}
		p.kill()
		return nil
	}
	return p
}

// run runs the process from its start to its end, serves its Runtime API on ln, and passes
// its output from r on. It tells started how the start went.
func (p *process) run(h *Host, ln net.Listener, r *os.File, started chan<- error) {
	// The kernel signals the child when the thread that started it ends, so this
	// thread is kept for as long as the child lives.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		ln.Close()
		r.Close()
		p.out.Close()
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	srv := &http.Server{Handler: loopback.Guard(p.runtimeAPI()), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go p.readOutput(h, r)
	go func() { _ = srv.Serve(ln) }() // ends with srv.Close
	started <- nil
	err := p.cmd.Wait()
	p.kill() // what it left running in its group
	p.out.Close()
	// All its output is in the pipe by now; the limit is for a child of its own
	// that left the group with the pipe open.
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	<-p.read
	_ = srv.Close()
	p.setExit(err)
	h.opts.Logger.InfoContext(h.ctx, "process ended", slog.String("function", p.fn.Name), slog.Int("pid", p.pid), slog.String("cause", p.cause()))
	close(p.exited)
}

func (p *process) setExit(err error) {
	text := "Runtime exited without providing a reason"
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		text = "Runtime exited with error: " + exit.String()
	} else if s := p.cmd.ProcessState; s != nil && !s.Success() {
		text = "Runtime exited with error: " + s.String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exitText = text
}

// cause says how the process ended, in the platform's words.
func (p *process) cause() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exitText
}

func (p *process) initError() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.initErr
}

// kill ends the process and what it started. After its end it does nothing: the
// number may belong to another process by then.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	select {
	case <-p.exited:
	default:
		killGroup(p.cmd.Process)
	}
}

// serving reports whether the process has an invocation and lives.
func (p *process) serving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != nil && !p.killed && p.exitText == ""
}

// hand gives the process an event, its deadline counted from now. False: the process
// ended before it took it.
func (p *process) hand(inv *invocation, timeout time.Duration) bool {
	p.mu.Lock()
	p.tail = fmt.Appendf(nil, "START RequestId: %s Version: %s\n", inv.id, latest)
	p.mu.Unlock()
	// Functions see milliseconds; host and function must mean the same instant.
	inv.deadline = time.UnixMilli(time.Now().Add(timeout).UnixMilli())
	select {
	case p.next <- inv:
		return true
	case <-p.exited:
		return false
	}
}

// result returns what the runtime answered for inv, if it did.
func (p *process) result(inv *invocation) (answer []byte, failed, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return inv.answer, inv.failed, inv.answered
}

func (p *process) logTail(id string, d time.Duration) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log(fmt.Appendf(nil, "END RequestId: %s\nREPORT RequestId: %s\tDuration: %.2f ms\tMemory Size: %d MB\n",
		id, id, float64(d.Microseconds())/1000, p.fn.MemoryMB))
	return bytes.Clone(p.tail)
}

// log appends to the tail; the caller holds the mutex.
func (p *process) log(b []byte) {
	p.tail = append(p.tail, b...)
	if n := len(p.tail) - maxLogTail; n > 0 {
		p.tail = append(p.tail[:0], p.tail[n:]...)
	}
}

// readOutput passes the process's output on, line by line.
func (p *process) readOutput(h *Host, r io.ReadCloser) {
	defer close(p.read)
	defer r.Close()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		rest, marked := strings.CutSuffix(line, p.mark)
		if rest = strings.TrimSuffix(rest, "\n"); rest != "" || (line != "" && !marked) {
			p.mu.Lock()
			p.log([]byte(rest + "\n"))
			p.mu.Unlock()
			h.output(p.fn.Name, rest)
		}
		if marked {
			p.marked <- struct{}{}
		}
		if err != nil {
			return
		}
	}
}

// drain returns when everything that the process wrote so far was passed on. A pipe
// keeps the order of writes, so it is enough to write a line of our own and to wait
// until that was read.
func (p *process) drain() {
	if _, err := p.out.WriteString(p.mark); err != nil {
		<-p.read // the process is gone and the pipe closed
		return
	}
	select {
	case <-p.marked:
	case <-p.read:
	}
}
