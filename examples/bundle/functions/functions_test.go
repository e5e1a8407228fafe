// Package functions_test runs the binaries of this bundle as Lambda does.
package functions_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

const token = "t0ken-of-the-example"

// A page is delivered, dead-lettered while the service is down, and delivered by a replay: by
// the schedule, and by an operator.
func TestEveryFunctionKnowsTheBundlesOwnKind(t *testing.T) {
	var down atomic.Bool
	pages := make(chan string, 10)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil || r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			pages <- string(body)
		}
	}))
	t.Cleanup(service.Close)
	paged := func(id, text string) {
		t.Helper()
		var page struct {
			Team, Text string
			ID         string `json:"dedupe_key"`
		}
		select {
		case body := <-pages:
			if err := json.Unmarshal([]byte(body), &page); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		default:
			t.Fatalf("nobody was paged with %q", text)
		}
		if page.Team != "search" || page.Text != text || page.ID != id {
			t.Errorf("paged %+v, want team search, id %s, text %s", page, id, text)
		}
	}

	env := []string{
		"BACKSTOP_SINKS=file:" + onCall(t, service.URL),
		"BACKSTOP_REDIS_URL=redis://" + miniredis.RunT(t).Addr(),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=eu-central-1",
	}
	send, replay, api := start(t, "send", env...), start(t, "replay", env...), start(t, "dlq-api", env...)
	message := func(id, text string) string {
		return fmt.Sprintf(`{"id":%q,"sink":"on-call","recipient":{"team":"search"},"message":{"subject":"Disk full","body":%q}}`, id, text)
	}
	status := func(answer, want string) (itemID string) {
		t.Helper()
		var a struct {
			Status string
			ItemID string `json:"item_id"`
		}
		if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Status != want {
			t.Fatalf("answer %s (%v), want status %s", answer, err, want)
		}
		return a.ItemID
	}

	status(send.invoke(t, message("1", "db-1")), "delivered")
	paged("1", "db-1")

	down.Store(true)
	status(send.invoke(t, message("2", "db-2")), "dead_lettered")
	item := status(send.invoke(t, message("3", "db-3")), "dead_lettered")

	down.Store(false)
	if got := request(t, api, http.MethodGet, "/v1/sinks"); !strings.Contains(got, `"kind":"pager"`) {
		t.Errorf("the API shows %s, want a sink of kind pager", got)
	}
	status(request(t, api, http.MethodPost, "/v1/dlq/items/"+item+"/replay"), "delivered")
	paged("3", "db-3")

	answer := replay.invoke(t, `{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`)
	paged("2", "db-2")
	if len(pages) > 0 {
		t.Errorf("paged once more: %s; the replay's answer: %s", <-pages, answer)
	}
}

// onCall returns a folder with the configuration of the sink on-call.
func onCall(t *testing.T, url string) string {
	t.Helper()
	dir := t.TempDir()
	block := fmt.Sprintf("kind: pager\nurl: %s\ntoken: %s\nteam: payments\nretry: {max_attempts: 1}\n", url, token)
	if err := os.WriteFile(filepath.Join(dir, "on-call.yaml"), []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// request makes a request to the API, as API Gateway passes it on, and returns the body
// of the answer 200.
func request(t *testing.T, api *function, method, path string) string {
	t.Helper()
	event, err := json.Marshal(map[string]any{
		"version": "2.0", "rawPath": path, "requestContext": map[string]any{
			"stage": "$default", "timeEpoch": time.Now().UnixMilli(), "http": map[string]any{"method": method, "path": path},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	payload := api.invoke(t, string(event))
	var answer struct {
		StatusCode int
		Body       string
	}
	if err := json.Unmarshal([]byte(payload), &answer); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s (%v)", method, path, payload, err)
	}
	return answer.Body
}
