// Package moto starts moto_server, an emulator of AWS, for tests. A missing moto_server
// fails the test and says how to get it; nothing is ever skipped.
package moto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"backstop/internal/freeport"
)

// patience bounds how long an emulator may take to answer; it is an interpreter that
// loads a large library, beside other tests.
const patience = time.Minute

// Start starts an emulator that ends with the test, and returns its URL.
func Start(tb testing.TB) string {
	tb.Helper()
	s, err := start()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.stop)
	return s.url
}

var shared struct {
	sync.Mutex
	server *server
}

// Shared returns the URL of the emulator that all tests of this process share, and
// starts it when it is not running. Call StopShared at the end of TestMain.
func Shared(tb testing.TB) string {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := start()
		if err != nil {
			tb.Fatal(err)
		}
		shared.server = s
	}
	return shared.server.url
}

// StopShared stops the shared emulator, if one runs.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.stop()
		shared.server = nil
	}
}

type server struct {
	url    string
	free   func() // gives the port back
	cmd    *exec.Cmd
	output bytes.Buffer // complete when it has exited
	exited chan struct{}
}

func start() (*server, error) {
	binary, err := exec.LookPath("moto_server")
	if err != nil {
		return nil, errors.New("moto_server is missing: pip install 'moto[server]'")
	}
	port, free, err := freeport.Reserve()
	if err != nil {
		return nil, err
	}
	s := &server{url: fmt.Sprintf("http://127.0.0.1:%d", port), free: free, exited: make(chan struct{})}
	s.cmd = exec.Command(binary, "-H", "127.0.0.1", "-p", strconv.Itoa(port)) //nolint:gosec,noctx // found on the PATH; stop ends it
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		free()
		return nil, fmt.Errorf("moto_server: %w", err)
	}
	go func() {
		_ = s.cmd.Wait() // its output tells why
		close(s.exited)
	}()
	if err := s.ready(); err != nil {
		s.stop()
		return nil, fmt.Errorf("moto_server: %w\n%s", err, &s.output)
	}
	return s, nil
}

// ready waits until the emulator answers.
func (s *server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience) //nolint:forbidigo // shared by tests
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/moto-api/", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			return errors.Join(err, resp.Body.Close())
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended: %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s", patience)
		case <-tick.C:
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.exited
	s.free()
}
