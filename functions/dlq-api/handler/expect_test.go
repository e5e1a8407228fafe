package handler

import (
	"encoding/json"
	"strings"
	"testing"

	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// What a dry run saw is what the operation works on: what comes later is left out, and where
// anything of it is gone or another, nothing begins.
func TestAnOperationBeginsOnlyOverWhatWasSeen(t *testing.T) {
	for backend, open := range backends {
		for name, filter := range map[string]string{"a filter": `"filter":{"sink":"hook","reason":"exhausted"}`, "whole queues": `"all":true`, "ids": ""} {
			t.Run(backend+", "+name, func(t *testing.T) {
				f := open(t)
				var stored []dlq.Item
				ids := make([]string, 0, 12)
				for n := range 12 {
					it := item(n)
					if n%3 == 0 {
						it.LastError = "SINK_UNAVAILABLE: HTTP 404"
					}
					stored = append(stored, f.add(t, it))
					ids = append(ids, stored[n].ID)
				}
				if name == "ids" {
					b, err := json.Marshal(ids)
					if err != nil {
						t.Fatal(err)
					}
					filter = `"ids":` + string(b)
				}
				const path = "/v1/dlq/operations"
				look := func() (seen string) {
					t.Helper()
					var dry struct {
						Count  int64
						Groups []struct{ Count int64 }
						Expect json.RawMessage
					}
					f.ask(t, "POST", path, `{"action":"discard",`+filter+`,"dry_run":true,"expect":{}}`).want(200, "").into(&dry)
					if len(dry.Groups) != 2 || dry.Groups[0].Count < dry.Groups[1].Count || dry.Groups[0].Count+dry.Groups[1].Count != dry.Count {
						t.Errorf("dry run: %+v, want two groups, the larger first", dry)
					}
					return string(dry.Expect)
				}
				request := func(seen string) string { return `{"action":"discard",` + filter + `,"expect":` + seen + `}` }
				before := look()
				if err := f.app.Queue.Discard(t.Context(), ids[5]); err != nil {
					t.Fatal(err)
				}
				stale := f.ask(t, "POST", path, request(before)).want(409, "PREVIEW_STALE")
				if !strings.Contains(stale.Body.String(), "12 dead letters were seen, and 11 of them are there") {
					t.Errorf("stale: %s", stale.Body)
				}
				if ops := list(t, f); len(ops) != 0 {
					t.Fatalf("a stale preview began %+v", ops)
				}
				f.ask(t, "POST", path, request(`{}`)).want(400, "INVALID_ARGUMENT")
				f.ask(t, "POST", path, request(`{"up_to":"x","digest":"00"}`)).want(400, "INVALID_ARGUMENT")
				f.ask(t, "POST", path, request(strings.Replace(look(), `"digest":"`, `"digest":"0`, 1))).want(409, "PREVIEW_STALE")
				seen := look()
				f.add(t, item(100)) // later: no member, and no reason to look again
				var op, again operation
				f.ask(t, "POST", path, request(seen), "Idempotency-Key", "token").want(202, "").into(&op)
				if op.Total != 11 {
					t.Errorf("created: %+v, want 11 members", op)
				}
				if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
					t.Fatal(err)
				}
				if left, err := f.app.Queue.Items(t.Context(), "hook", 0); err != nil || len(left) != 1 || left[0].DeliveryID != "d100" {
					t.Errorf("left: %+v, %v, want what came later", left, err)
				}
				// The answer was lost: nothing is as it was seen, and it is the same operation.
				f.ask(t, "POST", path, request(seen), "Idempotency-Key", "token").want(202, "").into(&again)
				if again.ID != op.ID || len(list(t, f)) != 1 {
					t.Errorf("asked again: %+v, want %s", again, op.ID)
				}
				f.ask(t, "POST", path, request(seen), "Idempotency-Key", "another").want(409, "PREVIEW_STALE")
			})
		}
	}
}

// up_to fixes the items of an operation to what a dry run saw, sink by sink.
func TestWhatIsConfirmedIsWhatWasSeen(t *testing.T) {
	for backend, open := range backends {
		for name, filter := range map[string]string{"a filter": `"filter":{"reason":"exhausted"}`, "whole queues": `"all":true`} {
			t.Run(backend+", "+name, func(t *testing.T) {
				f := open(t)
				for n := range 3 {
					f.add(t, item(n))
				}
				const path = "/v1/dlq/operations"
				var dry struct {
					Count int64
					UpTo  map[string]string `json:"up_to"`
				}
				f.ask(t, "POST", path, `{"action":"discard",`+filter+`,"dry_run":true}`).want(200, "").into(&dry)
				if dry.Count != 3 || len(dry.UpTo) != 1 || dry.UpTo["hook"] == "" {
					t.Fatalf("dry run: %+v", dry)
				}
				f.add(t, item(100)) // later
				other := item(101)
				other.Sink = "spare"
				f.add(t, other)
				b, err := json.Marshal(dry.UpTo)
				if err != nil {
					t.Fatal(err)
				}
				var op operation
				f.ask(t, "POST", path, `{"action":"discard",`+filter+`,"up_to":`+string(b)+`}`).want(202, "").into(&op)
				if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
					t.Fatal(err)
				}
				left, err := f.app.Queue.Items(t.Context(), "", 0)
				if err != nil || len(left) != 2 || left[0].DeliveryID == "d0" {
					t.Errorf("left: %+v, %v, want the two that came later", left, err)
				}
				for _, bad := range []string{`{"No/Name":"1-0"}`, `{"hook":"x"}`, `{"hook":"hook~1-0"}`} {
					f.ask(t, "POST", path, `{"action":"discard",`+filter+`,"up_to":`+bad+`}`).want(400, "INVALID_ARGUMENT")
				}
				f.ask(t, "POST", path, `{"action":"discard","ids":["hook~1-0"],"up_to":{}}`).want(400, "INVALID_ARGUMENT")
			})
		}
	}
}
