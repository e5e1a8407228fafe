package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"backstop/lib/sinks"
	"backstop/lib/sinks/webhook"
)

// inProcess runs the test alone in a process of its own that may have so many file
// descriptors. The process gets what is set in env; it runs body in place of the test.
func inProcess(t *testing.T, descriptors uint64, env []string, body func()) {
	t.Helper()
	const inside = "BACKSTOP_TEST_INSIDE"
	if os.Getenv(inside) == t.Name() {
		limit := syscall.Rlimit{Cur: descriptors, Max: descriptors}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		body()
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(append(os.Environ(), inside+"="+t.Name()), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

// receivers starts n servers, each with a host of its own, and returns their URLs.
func receivers(t *testing.T, n int) string {
	t.Helper()
	var urls []string
	for range n {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	return "BACKSTOP_TEST_URLS=" + strings.Join(urls, " ")
}

func given() []string { return strings.Fields(os.Getenv("BACKSTOP_TEST_URLS")) }

// Many sinks and many records share what a process may open: nobody's message fails
// for it, and what a sink has used is there for the next one.
func TestManySinksShareTheProcesssDescriptors(t *testing.T) {
	var env []string
	if len(given()) == 0 {
		env = append(env, receivers(t, 40))
	}
	inProcess(t, 128, env, func() {
		var failed sync.Map
		for round := range 2 {
			var wg sync.WaitGroup
			for i := range 400 {
				s, err := webhook.New(fmt.Sprintf("hook-%d", i), webhook.Config{URL: sinks.Secret(given()[i%40])}, nil)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					if err := s.Send(t.Context(), nil, sinks.Message{ID: "d", Body: "x"}); err != nil {
						failed.Store(i, fmt.Errorf("round %d: %w", round, err))
					}
				})
			}
			wg.Wait()
		}
		n := 0
		failed.Range(func(_, err any) bool {
			if n++; n == 1 {
				t.Errorf("%v", err)
			}
			return true
		})
		if n > 0 {
			t.Errorf("%d of 400 sinks lost messages to receivers that are well", n)
		}
	})
}

// When others have used the descriptors up, idle connections make room. Where there are
// none, the failure is the process's own, and says so.
func TestIdleConnectionsMakeRoomWhenDescriptorsRunOut(t *testing.T) {
	var env []string
	if len(given()) == 0 {
		env = append(env, receivers(t, 2))
	}
	inProcess(t, 128, env, func() {
		s := build(t, webhook.Config{URL: sinks.Secret(given()[0]), AllowPrivateRecipients: true}, nil)
		m := sinks.Message{ID: "d", Body: "x"}
		files := useUp()
		err := s.Send(t.Context(), nil, m)
		if !sinks.IsOurs(err) || !sinks.IsTransient(err) || !strings.Contains(err.Error(), "no file descriptor was free") {
			t.Errorf("without a descriptor: %v", err)
		}
		for _, f := range files {
			f.Close()
		}
		if err := s.Send(t.Context(), nil, m); err != nil {
			t.Errorf("with descriptors again: %v", err)
		}
		useUp()
		// The guarded connection takes the place of the other one, which is idle.
		if err := s.Send(t.Context(), webhook.Recipient{URL: given()[1]}, m); err != nil {
			t.Errorf("with an idle connection to another host: %v", err)
		}
	})
}

// useUp opens files until the process may open no more.
func useUp() (files []*os.File) {
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return files
		}
		files = append(files, f)
	}
}
