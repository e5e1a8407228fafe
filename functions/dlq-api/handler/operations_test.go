package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"backstop/internal/replayer"
	"backstop/lib/replay"
)

func recorded(body []byte) *httptest.ResponseRecorder {
	return &httptest.ResponseRecorder{Body: bytes.NewBuffer(body)}
}

type operation struct {
	ID, Status, Action                          string
	Total, Settled, Delivered, Discarded, Count int
	Failed, Waiting, Round, Looked              int
	StopAfter                                   int       `json:"stop_after"`
	WaitingUntil                                time.Time `json:"waiting_until"`
	Error                                       string
	LastTried                                   *struct {
		At               time.Time
		Error, Operation string
	} `json:"last_tried"`
	IDs   []string
	Sinks map[string]struct {
		Done, Stopped    bool
		Settled, Waiting int
	}
	Sample []struct{ ID string }
}

func TestAnOperationIsPreviewedRecordedAndFollowed(t *testing.T) {
	f := newFixture(t)
	for n := range 15 {
		it := item(n)
		if n%3 == 0 {
			it.LastError = "SINK_UNAVAILABLE: HTTP 404"
		}
		f.add(t, it)
	}
	const filter = `"filter":{"sink":"hook","reason":"exhausted","fingerprint":"SINK_UNAVAILABLE: HTTP 503"}`
	var dry operation
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay",`+filter+`,"dry_run":true}`).want(200, "").into(&dry)
	if dry.Count != 10 || len(dry.Sample) != 10 {
		t.Errorf("dry run: %+v, want 10 and a sample of 10", dry)
	}
	if n := len(list(t, f)); n != 0 {
		t.Errorf("%d operations after a dry run", n)
	}

	request := `{"action":"replay",` + filter + `,"reason":"INC-1"}`
	created := f.ask(t, "POST", "/v1/dlq/operations", request, "Idempotency-Key", "k1").want(202, "")
	var op, again operation
	created.into(&op)
	f.ask(t, "POST", "/v1/dlq/operations", request, "Idempotency-Key", "k1").want(202, "").into(&again)
	if op.ID != again.ID || op.Total != 10 || op.Status != "queued" {
		t.Errorf("created %+v, then %+v, want one operation of 10", op, again)
	}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard",`+filter+`}`, "Idempotency-Key", "k1").want(422, "ID_REUSED")

	if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
		t.Fatal(err)
	}
	f.ask(t, "GET", "/v1/dlq/operations/"+op.ID, "").want(200, "").into(&op)
	if op.Status != "completed" || op.Delivered != 10 || !op.Sinks["hook"].Done || f.got.Load() != 10 {
		t.Errorf("after the run: %+v, %d sent", op, f.got.Load())
	}
	f.ask(t, "POST", "/v1/dlq/operations/"+op.ID+"/cancel", "").want(200, "").into(&op)
	if op.Status != "completed" {
		t.Errorf("a final operation is %s after cancel", op.Status)
	}

	var ids operation
	left, err := f.app.Queue.Items(t.Context(), "hook", 0)
	if err != nil || len(left) != 5 {
		t.Fatalf("%d items are left, %v, want 5", len(left), err)
	}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","ids":["`+left[0].ID+`"]}`).want(202, "").into(&ids)
	f.ask(t, "POST", "/v1/dlq/operations/"+ids.ID+"/cancel", "").want(200, "").into(&ids)
	if ids.Status != "canceled" || len(ids.IDs) != 1 {
		t.Errorf("canceled: %+v", ids)
	}
	if ops := list(t, f); len(ops) != 2 || ops[0].ID != ids.ID || ops[0].IDs != nil {
		t.Errorf("the list: %+v, want two, newest first, without ids", ops)
	}
	var one struct{ Operations []operation }
	f.ask(t, "GET", "/v1/dlq/operations?limit=1", "").want(200, "").into(&one)
	if len(one.Operations) != 1 {
		t.Errorf("%d operations with limit 1", len(one.Operations))
	}
}

// A stopped operation says why, when it was last tried is said before the next one, and a
// resumption is started at once.
func TestAStoppedOperationIsResumed(t *testing.T) {
	f := newFixture(t)
	for n := range 20 {
		f.add(t, item(n))
	}
	l := &fakeLambda{}
	f.api = newAPI(f.app, nil, &starter{&replayer.Function{Name: "replay-fn", Client: l}, slog.New(slog.DiscardHandler)})
	const all = `{"action":"replay","all":true`
	var dry operation
	f.ask(t, "POST", "/v1/dlq/operations", all+`,"dry_run":true}`).want(200, "").into(&dry)
	if dry.LastTried != nil || dry.Looked != 20 {
		t.Errorf("dry run: %+v, want 20 looked at, and none tried", dry)
	}
	f.status.Store(http.StatusServiceUnavailable)
	var op operation
	f.ask(t, "POST", "/v1/dlq/operations", all+`,"stop_after":3}`).want(202, "").into(&op)
	if op.StopAfter != 3 || op.Round != 1 || len(l.got) != 1 {
		t.Errorf("created: %+v, started %d times", op, len(l.got))
	}
	f.ask(t, "POST", "/v1/dlq/operations/"+op.ID+"/resume", "").want(400, "INVALID_ARGUMENT")
	if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
		t.Fatal(err)
	}
	f.ask(t, "GET", "/v1/dlq/operations/"+op.ID, "").want(200, "").into(&op)
	if op.Status != "stopped" || op.Failed != 3 || !op.Sinks["hook"].Stopped || !strings.Contains(op.Error, "sink hook: stopped after 3 failures in a row: ") {
		t.Errorf("after the run: %+v, want it stopped", op)
	}
	f.ask(t, "POST", "/v1/dlq/operations", all+`,"dry_run":true}`).want(200, "").into(&dry)
	if last := dry.LastTried; last == nil || last.Operation != op.ID || time.Since(last.At) > time.Minute || !strings.Contains(op.Error, last.Error) || last.Error == "" {
		t.Errorf("dry run: last tried %+v, want what operation %s met", last, op.ID)
	}
	f.status.Store(http.StatusOK)
	f.ask(t, "POST", "/v1/dlq/operations/"+op.ID+"/resume", "").want(200, "").into(&op)
	if op.Status != "queued" || op.Round != 2 || len(l.got) != 2 {
		t.Errorf("resumed: %+v, started %d times", op, len(l.got))
	}
	if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
		t.Fatal(err)
	}
	f.ask(t, "GET", "/v1/dlq/operations/"+op.ID, "").want(200, "").into(&op)
	if op.Status != "completed" || op.Delivered != 20 || op.Failed != 0 {
		t.Errorf("after the second round: %+v, want all delivered", op)
	}
	f.ask(t, "POST", "/v1/dlq/operations/"+op.ID+"/resume", "").want(400, "INVALID_ARGUMENT")
}

func list(t *testing.T, f *fixture) []operation {
	t.Helper()
	var all struct{ Operations []operation }
	f.ask(t, "GET", "/v1/dlq/operations", "").want(200, "").into(&all)
	return all.Operations
}

// fakeLambda is the Invoke API.
type fakeLambda struct {
	err  error
	hang bool
	got  []*lambda.InvokeInput
}

func (l *fakeLambda) Invoke(ctx context.Context, in *lambda.InvokeInput, _ ...func(*lambda.Options)) (*lambda.InvokeOutput, error) {
	l.got = append(l.got, in)
	if l.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &lambda.InvokeOutput{}, l.err
}

func TestReplayIsStartedAtOnceAndItsFailureOnlyLogged(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	for name, l := range map[string]*fakeLambda{"it works": {}, "it fails": {err: errors.New("denied")}} {
		var log bytes.Buffer
		f.api = newAPI(f.app, nil, &starter{&replayer.Function{Name: "replay-fn", Client: l}, slog.New(slog.NewTextHandler(&log, nil))})
		f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","all":true,"dry_run":true}`).want(200, "")
		var op operation
		f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","all":true}`).want(202, "").into(&op)
		if len(l.got) != 1 {
			t.Fatalf("%s: invoked %d times, want once, and not for the dry run", name, len(l.got))
		}
		var payload replay.Request
		if err := json.Unmarshal(l.got[0].Payload, &payload); err != nil {
			t.Fatal(err)
		}
		if in := l.got[0]; *in.FunctionName != "replay-fn" || in.InvocationType != types.InvocationTypeEvent || payload.Operation != op.ID {
			t.Errorf("%s: invoked with %+v, %s", name, in, in.Payload)
		}
		if failed := strings.Contains(log.String(), "denied"); failed != (l.err != nil) {
			t.Errorf("%s: logged %q", name, log.String())
		}
	}
	l := &fakeLambda{hang: true}
	s := &starter{&replayer.Function{Client: l}, slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s.start(ctx, "op") // returns
	if len(l.got) != 1 {
		t.Error("not invoked")
	}
	(*starter)(nil).start(t.Context(), "op")
}

func TestABrokenEnvironmentIsNamedByEveryRoute(t *testing.T) {
	f := newFixture(t)
	t.Setenv("BACKSTOP_SINKS", "")
	a, err := newBroken(t)
	f.api = newAPI(a, err, newStarter(t.Context(), a))
	for route := range f.doc.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if strings.Contains(path, "{") || path == "/v1/messages" {
			continue
		}
		if r := f.ask(t, method, path, "").want(http.StatusServiceUnavailable, "SINK_CONFIG_INVALID"); !strings.Contains(r.Body.String(), "BACKSTOP_SINKS") {
			t.Errorf("%s: %s", route, r.Body)
		}
	}
}

func TestTheIdempotencyKeyOfAnOperationInAnySpelling(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	create := func(key string) reply {
		return f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","all":true,"reason":"r"}`, "idempotency-KEY", key)
	}
	var first, again struct{ ID string }
	create("key-1").want(202, "").into(&first)
	create(`"key-1"`).want(202, "").into(&again)
	if first.ID != again.ID {
		t.Errorf("with quotes it is another operation: %s, %s", first.ID, again.ID)
	}
	for _, key := range []string{"a b", `"a`, `""`} {
		var p struct{ Detail string }
		create(key).want(400, "INVALID_ARGUMENT").into(&p)
		if !strings.Contains(p.Detail, "Idempotency-Key") {
			t.Errorf("%s: the problem does not name the header: %s", key, p.Detail)
		}
	}
}
