package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/freeport"
)

// User and Password are the ACL user of a server started WithTLS. The user may touch
// keys under "backstop" only, and has no dangerous commands.
const (
	User     = "backstop"
	Password = "correct-horse"
)

// Option configures a server.
type Option func(*config)

type config struct {
	lines []string // of redis.conf
	tls   bool
}

// WithConfig adds a line to redis.conf, such as WithConfig("maxmemory", "8mb").
func WithConfig(key, value string) Option {
	return func(c *config) { c.lines = append(c.lines, key+" "+value) }
}

// WithMaxMemory bounds the server's memory (such as "8mb"); writes beyond are refused.
func WithMaxMemory(size string) Option {
	return func(c *config) {
		c.lines = append(c.lines, "maxmemory "+size, "maxmemory-policy noeviction")
	}
}

// WithAppendOnly keeps the data over Kill and Restart, synced at every write.
func WithAppendOnly() Option {
	return func(c *config) { c.lines = append(c.lines, "appendonly yes", "appendfsync always") }
}

// WithTLS makes the server speak TLS only, with a certificate made for the test, and
// accept only the ACL user User with Password.
func WithTLS() Option { return func(c *config) { c.tls = true } }

// Server is one redis-server process.
type Server struct {
	Addr string // host:port
	Dir  string // its data folder

	bus   int // cluster bus port; 0: no cluster
	lines []string
	tls   *tls.Config

	mu   sync.Mutex
	proc *process
}

// Start starts a server of the test's own and stops it at the test's end.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s := newServer(tb, tb.TempDir(), opts)
	tb.Cleanup(s.stop)
	s.start(tb)
	return s
}

func newServer(tb testing.TB, dir string, opts []Option) *Server {
	tb.Helper()
	var c config
	for _, o := range opts {
		o(&c)
	}
	s := &Server{Dir: dir, Addr: fmt.Sprintf("127.0.0.1:%d", port(tb))}
	s.lines = append([]string{"bind 127.0.0.1", `save ""`, "dir " + strconv.Quote(dir)}, c.lines...)
	if c.tls {
		s.tls = makeCertificate(tb, dir)
		s.lines = append(s.lines,
			"tls-cert-file "+strconv.Quote(filepath.Join(dir, certFile)),
			"tls-key-file "+strconv.Quote(filepath.Join(dir, keyFile)),
			"tls-auth-clients no",
			// The rights are for Redis itself: without them it drops every transaction and
			// script when it reads its append-only file.
			"user default off ~* &* +@all",
			"user "+User+" on >"+Password+" ~backstop:* ~{backstop:* +@read +@write +@scripting +@connection +time -@dangerous",
		)
	}
	return s
}

// Options returns client options for the server: address, TLS and credentials.
func (s *Server) Options() *redis.UniversalOptions {
	o := ClientOptions(s.Addr)
	if s.tls != nil {
		o.TLSConfig, o.Username, o.Password = s.tls, User, Password
	}
	return o
}

// Client returns a new client that is closed at the test's end.
func (s *Server) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	return newClient(tb, s.Options())
}

// URL returns the server as a redis:// or rediss:// URL, with credentials.
func (s *Server) URL() string {
	if s.tls != nil {
		return fmt.Sprintf("rediss://%s:%s@%s", User, Password, s.Addr)
	}
	return "redis://" + s.Addr
}

// Kill ends the process at once (SIGKILL).
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.stop()
}

// Freeze stops the process where it is (SIGSTOP), until Thaw.
func (s *Server) Freeze(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGSTOP)
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw(tb testing.TB) {
	tb.Helper()
	s.signal(tb, syscall.SIGCONT)
}

func (s *Server) signal(tb testing.TB, sig os.Signal) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		tb.Fatalf("%s does not run", s.Addr)
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		tb.Fatal(err)
	}
}

// Restart kills the process, if it runs, and starts it again with the same port,
// configuration and data folder.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.stop()
	s.start(tb)
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

func (s *Server) start(tb testing.TB) {
	tb.Helper()
	if err := s.run(); err != nil {
		tb.Fatal(err)
	}
}

// run starts the process and waits until it answers.
func (s *Server) run() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	listen := "port " + port
	if s.tls != nil {
		listen = "port 0\ntls-port " + port
	}
	p, err := startProcess(strings.Join(s.lines, "\n") + "\n" + listen + "\n")
	if err != nil {
		return fmt.Errorf("redis-server cannot be started: %w\ninstall it: apt-get install redis-server", err)
	}
	if err := p.await(s.Addr, s.Options()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc = p
	return nil
}

// process is a running redis-server.
type process struct {
	cmd  *exec.Cmd
	log  bytes.Buffer // complete once done is closed
	done chan struct{}
}

func startProcess(conf string) (*process, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(path, "-"), done: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = strings.NewReader(conf), &p.log, &p.log
	dieWithParent(p.cmd)
	started := make(chan error, 1)
	// The parent-death signal is bound to the thread that forks, so a thread is held
	// for as long as the server runs.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// await waits until the process answers at addr.
func (p *process) await(addr string, o *redis.UniversalOptions) error {
	c := redis.NewUniversalClient(o)
	defer func() { _ = c.Close() }()
	deadline := time.Now().Add(20 * time.Second)
	for {
		// The port first: the client logs every refused connection.
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err = c.Ping(ctx).Err()
			cancel()
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			p.kill()
			return fmt.Errorf("redis-server does not answer at %s: %w", addr, err)
		}
		select {
		case <-p.done:
			return fmt.Errorf("redis-server ended: %s", p.log.Bytes())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(os.Kill)
	<-p.done
}

// port reserves a port for as long as the test runs.
func port(tb testing.TB) int {
	tb.Helper()
	port, release, err := freeport.Reserve()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return port
}
