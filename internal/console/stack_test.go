//go:build full

package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/client"
	"backstop/internal/incident"
	"backstop/internal/local"
)

// backstop is a whole Backstop of real binaries, with a console.
type backstop struct {
	*local.Stack
	api     *client.Client
	clock   time.Time // when the newest seeded dead letter was stored
	console string    // URL
}

// startBackstop starts one. With starter set, bulk operations start at once; otherwise they
// wait for a schedule, which does not run.
func startBackstop(t *testing.T, starter bool) *backstop {
	t.Helper()
	o := local.Options{Bin: built(t)}
	var mu sync.Mutex
	var said strings.Builder
	o.Output = func(f, line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&said, "%s | %s\n", f, line)
	}
	if !starter {
		o.Env = map[string]string{"BACKSTOP_REPLAY_FUNCTION": ""}
	}
	s, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			t.Logf("the functions said:\n%s", said.String())
		}
	})
	api, err := client.New(s.APIURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &backstop{Stack: s, api: api, console: start(t, s.APIURL).URL}
}

// startIncident starts a `backstop dev` in a process of its own, and 1,000 messages that
// fail in it. A replay to the sink orders takes some seconds.
func startIncident(t *testing.T) (*incident.Incident, *backstop) {
	t.Helper()
	in := incident.Start(t, 200)
	// It is interrupted by the cleanup, not killed before.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(built(t), "backstop"), incident.DevArgs(built(t), "--sinks", in.Sinks)...)
	dev := incident.StartDev(t, cmd)
	api, err := client.New(dev.API, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Strike(t.Context(), dev.Invoke); err != nil {
		t.Fatal(err)
	}
	return in, &backstop{api: api, console: dev.Console}
}

// export is all dead letters in full, a line each.
func (b *backstop) export(t *testing.T) []string {
	t.Helper()
	var lines []string
	for cursor := ""; ; {
		page, next, err := b.api.ExportPage(t.Context(), client.Filter{}, cursor)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(page)), "\n")...)
		if cursor = next; cursor == "" {
			return lines
		}
	}
}

// letter is a dead letter to seed.
type letter struct {
	DeliveryID    string            `json:"delivery_id"`
	Sink          string            `json:"sink"`
	At            time.Time         `json:"at"`
	Recipient     map[string]string `json:"recipient,omitempty"`
	Message       message           `json:"message"`
	Attempts      int               `json:"attempts"`
	LastError     string            `json:"last_error"`
	Reason        string            `json:"reason"`
	FirstFailedAt time.Time         `json:"first_failed_at"`
	Trace         string            `json:"trace,omitempty"`
	Parked        bool              `json:"parked,omitempty"`
	ExpiresAt     time.Time         `json:"expires_at,omitzero"`
}

type message struct {
	ID       string            `json:"id"`
	Subject  string            `json:"subject"`
	Body     string            `json:"body"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// cause makes n dead letters that failed alike.
func cause(sink, reason, lastError, name string, n int) []letter {
	out := make([]letter, n)
	now := time.Now().UTC()
	for i := range out {
		id := fmt.Sprintf("%s-%04d", name, i+1)
		// They came in waves, over the last six hours.
		ago := time.Duration(i%97)*time.Minute + time.Duration(i*i%211)*time.Minute + time.Duration(i%60)*time.Second
		at := now.Add(-ago % (6 * time.Hour))
		out[i] = letter{
			DeliveryID: id, Sink: sink, At: at, FirstFailedAt: at.Add(-14 * time.Second), Attempts: 5, LastError: lastError, Reason: reason,
			Message: message{ID: id, Subject: fmt.Sprintf("Order %d was paid", 4000+i), Body: fmt.Sprintf(`{"order":%d,"total":"%d.90"}`, 4000+i, 10+i%80)},
		}
	}
	return out
}

// seed stores dead letters through the API's import, oldest first, on a clock that is
// about right for each.
func (b *backstop) seed(t *testing.T, letters ...letter) {
	t.Helper()
	slices.SortFunc(letters, func(x, y letter) int { return x.At.Compare(y.At) })
	defer b.Redis.SetTime(time.Time{})
	for len(letters) > 0 {
		n := min(len(letters), 50)
		if at := letters[n-1].At; b.clock.Before(at) {
			b.clock = at
			b.Redis.SetTime(at)
		}
		var lines bytes.Buffer
		for _, l := range letters[:n] {
			if err := json.NewEncoder(&lines).Encode(l); err != nil {
				t.Fatal(err)
			}
		}
		r, err := b.api.Import(t.Context(), lines.Bytes())
		if err != nil {
			t.Fatalf("seed: %v", err)
		}
		if r.Stored != n {
			t.Fatalf("seed: %d of %d stored: %.300s", r.Stored, n, r.JSON)
		}
		letters = letters[n:]
	}
}

// The three causes of the story.
const (
	errDown = "SINK_UNAVAILABLE: POST https://receiver.example.org: HTTP 503"
	errGone = "SINK_UNAVAILABLE: POST https://partner.example.net: HTTP 404"
	errLate = "SINK_UNAVAILABLE: no answer within the attempt's time"

	// As the page names them.
	causeDown = "POST https://receiver.example.org: HTTP 503"
	causeGone = "POST https://partner.example.net: HTTP 404"
)

// story is 1,000 dead letters with three causes over two sinks.
func story() []letter {
	letters := cause("webhook-down", "exhausted", errDown, "down", 520)
	letters = append(letters, cause("webhook-gone", "terminal", errGone, "gone", 300)...)
	return append(letters, cause("webhook-down", "deadline", errLate, "late", 180)...)
}

// counts are the numbers of dead letters by reason.
func (b *backstop) counts(t *testing.T) map[string]int64 {
	t.Helper()
	groups, err := b.api.GroupsPage(t.Context(), client.Filter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, g := range groups.Groups {
		out[string(g.Reason)] += g.Count
	}
	return out
}

// newest returns a sink's newest dead letter in full.
func (b *backstop) newest(t *testing.T, f client.Filter) client.Item {
	t.Helper()
	page, err := b.api.ItemsPage(t.Context(), f, 1, "")
	if err != nil || len(page.Items) == 0 {
		t.Fatalf("no dead letter of %+v: %v", f, err)
	}
	it, err := b.api.Item(t.Context(), page.Items[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// accepted is how often the receiver took each delivery.
func (b *backstop) accepted() map[string]int {
	n := map[string]int{}
	for _, a := range b.Inbox.HTTP.Arrivals() {
		if a.Status == http.StatusOK {
			n[a.ID()]++
		}
	}
	return n
}
