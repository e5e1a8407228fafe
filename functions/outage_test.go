package functions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/local"
)

// flakyStore is a parameterStore whose pages have one parameter each, an empty one
// between any two, and that a fault stands in front of while one is set.
type flakyStore struct {
	parameterStore
	fault atomic.Pointer[http.HandlerFunc]
}

func (f *flakyStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fault := f.fault.Load(); fault != nil {
		(*fault)(w, r)
		return
	}
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "GetParametersByPath") {
		f.parameterStore.ServeHTTP(w, r)
		return
	}
	var in struct{ NextToken string }
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	all := httptest.NewRecorder()
	f.parameterStore.ServeHTTP(all, r)
	var out struct{ Parameters []any }
	_ = json.Unmarshal(all.Body.Bytes(), &out)
	page := 0
	_, _ = fmt.Sscanf(in.NextToken, "page-%d", &page)
	answer := map[string]any{"Parameters": []any{}}
	if page%2 == 1 && page/2 < len(out.Parameters) {
		answer["Parameters"] = out.Parameters[page/2 : page/2+1]
	}
	if page < 2*len(out.Parameters) {
		answer["NextToken"] = fmt.Sprintf("page-%d", page+1)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(answer)
}

// refuse answers with an error of AWS's.
func refuse(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "not now"})
	}
}

// hang answers nothing until the client goes away, which is seen once its request is read.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Whatever Parameter Store does, deliveries go on with the last good configuration, whose
// age and whose fault the operator sees; and a change is taken up when it is over.
func TestDeliveriesGoOnWhateverParameterStoreDoes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{
		"throttles":         refuse(http.StatusBadRequest, "ThrottlingException"),
		"denies":            refuse(http.StatusBadRequest, "AccessDeniedException"),
		"is out of order":   refuse(http.StatusInternalServerError, "InternalServerError"),
		"never answers":     hang,
		"hangs up":          func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"answers no JSON":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>busy") },
		"has no parameters": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Parameters":[]}`) },
		"has endless pages": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"Parameters":[],"NextToken":"again"}`)
		},
		"forgets the values": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"Parameters":[{"Name":"/backstop/prod/sinks/orders"}]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := startReceiver(t)
			store := &flakyStore{}
			set := func(path string) {
				store.mu.Lock()
				defer store.mu.Unlock()
				store.values = map[string]string{}
				for _, sink := range []string{"another", "orders", "yet-another"} {
					store.values["/backstop/prod/sinks/"+sink] = "kind: webhook\nurl: " + in.URL + path + "\n"
				}
			}
			set("/old")
			server := httptest.NewServer(store)
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
			})
			o := onRedis(t)
			o.Sinks, o.Timeout = "ssm:/backstop/prod/sinks/*", 10*time.Second
			o.Env["AWS_ENDPOINT_URL_SSM"], o.Env["BACKSTOP_SINKS_TTL"] = server.URL, "200ms"
			s := start(t, o)

			sent := 0
			deliver := func() string { // returns where it arrived
				t.Helper()
				sent++
				id := fmt.Sprintf("m%d", sent)
				if a := send(t, s, "orders", id, "x"); a.status != http.StatusOK {
					t.Errorf("%s: %d %s", id, a.status, a.raw)
				}
				for _, path := range []string{"/old", "/new"} {
					if received(in, path)[id] == 1 {
						return path
					}
				}
				return "nowhere"
			}
			sinks := func() answer { return call(t, s, "GET", "/v1/sinks", "") }
			if at := deliver(); at != "/old" {
				t.Fatalf("the first arrived %s", at)
			}
			if a := sinks(); a.text("config_error") != "" || a.number("config_age_seconds") < 0 {
				t.Errorf("before the fault: %s", a.raw)
			}

			store.fault.Store(&fault)
			set("/new")
			eventually(t, "the operator sees the fault", func() error {
				if at := deliver(); at != "/old" {
					t.Errorf("with the fault, one arrived %s", at)
				}
				if a := sinks(); a.text("config_error") == "" || a.number("config_age_seconds") < 1 {
					return fmt.Errorf("%d %s", a.status, a.raw)
				}
				return nil
			})
			store.fault.Store(nil)
			eventually(t, "the change is taken up", func() error {
				if at := deliver(); at != "/new" {
					return fmt.Errorf("one arrived %s", at)
				}
				return nil
			})
			if n := len(received(in, "/old")) + len(received(in, "/new")); n != sent {
				t.Errorf("%d were sent, %d arrived", sent, n)
			}
			if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
				t.Errorf("%d dead letters, want none", n)
			}
		})
	}
}

// A stack that has never read its configuration delivers nothing: every function says so
// in a metric that an alarm can rest on, and the schedule's heart does not beat.
func TestAStackWithoutItsConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]http.HandlerFunc{"an empty path": nil, "an endpoint that hangs": hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &flakyStore{}
			if fault != nil {
				store.fault.Store(&fault)
			}
			server := httptest.NewServer(store)
			t.Cleanup(func() {
				server.CloseClientConnections()
				server.Close()
			})
			var out lines
			o := onRedis(t)
			o.Output, o.Sinks, o.Timeout, o.ReplayTimeout = out.add, "ssm:/backstop/prod/sinks/*", 10*time.Second, 10*time.Second
			o.Env["AWS_ENDPOINT_URL_SSM"] = server.URL
			s := start(t, o)
			wantProblem(t, "send", send(t, s, "orders", "m1", "x"), http.StatusServiceUnavailable, "SINK_CONFIG_INVALID")
			failures("q1")(t, invoke(t, s, local.Queue, batch("orders", "q1")).Payload)
			call(t, s, "GET", "/v1/sinks", "")
			if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
				t.Errorf("replay: %s", res.Payload) // bulk operations that discard need no configuration
			}
			for _, f := range []string{local.Send, local.Queue, local.Replay, local.DLQAPI} {
				eventually(t, f, func() error {
					if out.index(f+" | ", `"ConfigMissing":1,`) < 0 {
						return errors.New("no ConfigMissing")
					}
					return nil
				})
			}
			if out.index(`"ReplayRuns":`) >= 0 {
				t.Error("the heart beats without a configuration")
			}

			store.mu.Lock()
			store.values = map[string]string{"/backstop/prod/sinks/orders": "kind: webhook\nurl: https://example.com\n"}
			store.mu.Unlock()
			store.fault.Store(nil)
			eventually(t, "the heart beats once there is one", func() error {
				invoke(t, s, local.Replay, []byte(`{}`))
				if out.index(local.Replay+" | ", `"ConfigMissing":0,`, `"ReplayRuns":1,`) < 0 {
					return errors.New("not yet")
				}
				return nil
			})
		})
	}
}
