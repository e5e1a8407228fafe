package handler

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"backstop/client"
	"backstop/lib/fault"
)

// transport answers the client's requests, and checks each answer against the document.
func (f *fixture) transport(t *testing.T) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		f.api.ServeHTTP(w, r)
		if err := f.doc.Answer(context.Background(), r.Method, r.URL.RequestURI(), w.Code, w.Header(), w.Body.Bytes()); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		return w.Result(), nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The Go client and the API understand each other, over both queues.
func TestTheClientOfTheAPI(t *testing.T) {
	for name, start := range backends {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			c, err := client.New("http://api.example", &client.Options{Transport: f.transport(t), Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			for n := range 5 {
				f.add(t, item(n))
			}
			theClientReads(t, c)
			theClientActs(t, f, c)
			theClientActsOnMany(t, c)
		})
	}
}

func theClientReads(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	var found []string
	for it, err := range c.Items(ctx, client.Filter{Sink: "hook", Reason: client.ReasonExhausted, State: client.StateDue, Since: time.Now().Add(-time.Hour)}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, it.DeliveryID)
	}
	if got := strings.Join(found, " "); got != "d4 d3 d2 d1 d0" {
		t.Errorf("items %s", got)
	}
	p, err := c.ItemsPage(ctx, client.Filter{}, 2, "")
	if err != nil || len(p.Items) != 2 || p.NextCursor == "" || !p.Complete {
		t.Fatalf("a page: %+v, %v", p, err)
	}
	if p, err = c.ItemsPage(ctx, client.Filter{}, 2, p.NextCursor); err != nil || len(p.Items) != 2 || p.Items[0].DeliveryID != "d2" {
		t.Errorf("the next page: %+v, %v", p, err)
	}
	n, err := c.Count(ctx, "")
	if err != nil || n.Count != 5 || n.Sinks["hook"] != 5 || n.States[client.StateDue] != 5 {
		t.Errorf("count %+v, %v", n, err)
	}
	groups := int64(0)
	for g, err := range c.Groups(ctx, client.Filter{State: client.StateDue}) {
		if err != nil || g.Sink != "hook" || g.Reason != client.ReasonExhausted {
			t.Errorf("group %+v, %v", g, err)
		}
		groups += g.Count
	}
	if groups != 5 {
		t.Errorf("groups of %d", groups)
	}
	sinks, err := c.Sinks(ctx)
	if err != nil || len(sinks.Sinks) != 2 || sinks.Sinks[0].Kind != "webhook" || sinks.Sinks[0].Depth != 5 {
		t.Errorf("sinks %+v, %v", sinks, err)
	}
	d, err := c.Delivery(ctx, "hook", "d1")
	if err != nil || d.Status != client.DeliveryDeadLettered || d.ItemID == "" {
		t.Errorf("delivery %+v, %v", d, err)
	}
	if _, err := c.Delivery(ctx, "hook", "nobody"); fault.CodeOf(err) != fault.CodeDLQNotFound {
		t.Errorf("an unknown delivery: %v", err)
	}
	if b, err := c.Document(ctx); err != nil || !strings.HasPrefix(string(b), "openapi:") {
		t.Errorf("document %.20q, %v", b, err)
	}
}

func theClientActs(t *testing.T, f *fixture, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	p, err := c.ItemsPage(ctx, client.Filter{}, 3, "")
	if err != nil || len(p.Items) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	first, err := c.Item(ctx, p.Items[0].ID)
	if err != nil || first.Message.Body != "body of d4" || first.ETag == "" || len(first.JSON) == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	f.status.Store(http.StatusServiceUnavailable)
	res, err := c.Replay(ctx, first.ID, nil)
	if err != nil || res.Status != client.ReplayFailed || res.Error == "" || res.NextReplayAt.IsZero() {
		t.Errorf("a replay that fails: %+v, %v", res, err)
	}
	for what, err := range map[string]error{
		"replay": func() error {
			_, err := c.Replay(ctx, first.ID, &client.ReplayOptions{IfMatch: first.ETag})
			return err
		}(),
		"discard": c.Discard(ctx, first.ID, &client.ItemOptions{IfMatch: first.ETag}),
		"unpark":  func() error { _, err := c.Unpark(ctx, first.ID, &client.ItemOptions{IfMatch: first.ETag}); return err }(),
	} {
		if fault.CodeOf(err) != fault.CodePreconditionFailed {
			t.Errorf("%s of an older version: %v", what, err)
		}
	}
	due, err := c.Unpark(ctx, first.ID, nil)
	if err != nil || due.State != client.StateDue || due.ETag == "" || due.ETag == first.ETag || len(due.History) != 1 {
		t.Errorf("unpark: %+v, %v", due, err)
	}
	f.status.Store(http.StatusOK)
	res, err = c.Replay(ctx, first.ID, &client.ReplayOptions{IfMatch: due.ETag, Sink: "spare", OnSuccess: client.OnSuccessKeep})
	if err != nil || res.Status != client.ReplayDelivered || res.Sink != "spare" || res.SupersededBy != res.ID {
		t.Errorf("a replay that delivers: %+v, %v", res, err)
	}
	if _, err := c.Replay(ctx, res.ID, nil); fault.CodeOf(err) != fault.CodeAlreadyDelivered {
		t.Errorf("a replay of what was delivered: %v", err)
	}
	if old, err := c.Item(ctx, first.ID); err != nil || old.State != client.StateWaiting || old.SupersededBy != res.ID {
		t.Errorf("superseded: %+v, %v", old, err)
	}
	if kept, err := c.Item(ctx, res.ID); err != nil || kept.State != client.StateDelivered || kept.DeliveredAt.IsZero() {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	if err := c.Discard(ctx, p.Items[1].ID, nil); err != nil {
		t.Error(err)
	}
	if _, err := c.Item(ctx, p.Items[1].ID); fault.CodeOf(err) != fault.CodeDLQNotFound {
		t.Errorf("a discarded item: %v", err)
	}
	for paused, change := range map[bool]func(context.Context, string) (client.Sink, error){true: c.PauseSink, false: c.ResumeSink} {
		if s, err := change(ctx, "hook"); err != nil || s.Paused != paused {
			t.Errorf("paused %v: %+v, %v", paused, s, err)
		}
	}
}

func theClientActsOnMany(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	var lines []byte
	for it, err := range c.Export(ctx, client.Filter{State: client.StateDue}) {
		if err != nil || it.Message.Body == "" {
			t.Fatalf("%+v, %v", it, err)
		}
		lines = append(append(lines, it.JSON...), '\n')
	}
	in, err := c.Import(ctx, append(lines, "{}\n"...))
	if err != nil || in.Exists != 3 || in.Rejected != 1 || in.Results[3].Status != client.ImportRejected || in.Results[3].Code != fault.CodeInvalidArgument {
		t.Errorf("import: %+v, %v", in, err)
	}
	r := client.OperationRequest{Action: client.ActionDiscard, Filter: &client.Filter{Sink: "hook", Reason: client.ReasonExhausted}, Reason: "test"}
	dry, err := c.DryRun(ctx, r)
	if err != nil || !dry.DryRun || dry.Count != 4 || len(dry.Sample) != 4 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	op, err := c.CreateOperation(ctx, "key-1", r)
	if err != nil || op.Status != client.OperationQueued || op.Total != 4 || op.Filter.Sink != "hook" || op.Final() {
		t.Errorf("operation: %+v, %v", op, err)
	}
	if again, err := c.CreateOperation(ctx, "key-1", r); err != nil || again.ID != op.ID {
		t.Errorf("again: %+v, %v", again, err)
	}
	r.Action = client.ActionReplay
	if _, err := c.CreateOperation(ctx, "key-1", r); fault.CodeOf(err) != fault.CodeIDReused {
		t.Errorf("another operation with the key: %v", err)
	}
	if list, err := c.Operations(ctx, 10); err != nil || len(list.Operations) != 1 || list.Operations[0].ID != op.ID {
		t.Errorf("operations: %+v, %v", list, err)
	}
	if op, err = c.CancelOperation(ctx, op.ID); err != nil || op.Status != client.OperationCanceled {
		t.Errorf("cancel: %+v, %v", op, err)
	}
	if op, err = c.Operation(ctx, op.ID); err != nil || !op.Final() {
		t.Errorf("operation: %+v, %v", op, err)
	}
}
