//go:build full

package wipe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"backstop/internal/delay"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// progress is how far a restore got.
type progress struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Restore struct {
		Restored, Present, Skipped, Spilled, Damaged int64
	} `json:"restore"`
}

func (p progress) over() bool {
	return p.Status == "completed" || p.Status == "failed" || p.Status == "canceled"
}

// restoreOnce restores after the first wipe, while everything goes on, until it is done or Redis, which
// has the operation, is wiped again.
func (r *run) restoreOnce(sent <-chan struct{}) {
	select {
	case <-r.wiping:
	case <-sent:
		return
	}
	for r.ctx.Err() == nil {
		op, ok := r.createRestore()
		for ok && r.ctx.Err() == nil {
			r.mu.Lock()
			r.first = op
			r.mu.Unlock()
			if op.over() {
				return
			}
			select {
			case <-r.wiping:
				return
			case <-sent:
				return
			case <-time.After(200 * time.Millisecond):
			}
			status, body := r.api(http.MethodGet, "/v1/dlq/operations/"+op.ID, "")
			var now progress
			if status == http.StatusOK && json.Unmarshal(body, &now) == nil {
				op = now
			}
		}
		_ = delay.Sleep(r.ctx, 100*time.Millisecond)
	}
}

func (r *run) createRestore() (op progress, ok bool) {
	status, body := r.api(http.MethodPost, "/v1/dlq/operations", `{"action":"restore","reason":"Redis was wiped"}`)
	return op, status == http.StatusAccepted && json.Unmarshal(body, &op) == nil
}

// operated is what came of the operator's work at the end.
type operated struct {
	restored progress
	ticks    int
	back     int64 // spilled when it began
	audit    string
}

// operate does what an operator does once the receivers are well and all faults are over: lets the
// schedule bring back what is spilled, restores, lets it replay everything, and audits.
func (r *run) operate(t *testing.T) (o operated) {
	t.Helper()
	limit, cancel := context.WithTimeout(r.ctx, 3*time.Minute+time.Duration(r.N)*time.Millisecond)
	defer cancel()
	o.back = r.queues(t).spilled
	r.ticksUntil(limit, t, &o, "what is spilled or not journaled is done with", func() string {
		q := r.queues(t)
		if q.spilled+q.unjournaled == 0 {
			return ""
		}
		return q.String()
	})
	op, ok := r.createRestore()
	if !ok {
		t.Fatal("the restore was refused")
	}
	r.ticksUntil(limit, t, &o, "the restore is over", func() string {
		status, body := r.api(http.MethodGet, "/v1/dlq/operations/"+op.ID, "")
		if status != http.StatusOK {
			t.Fatalf("restore: %d %s", status, body)
		}
		if err := json.Unmarshal(body, &op); err != nil {
			t.Fatal(err)
		}
		if op.over() {
			return ""
		}
		return string(body)
	})
	if o.restored = op; op.Status != "completed" || op.Restore.Damaged != 0 {
		t.Errorf("the restore: %+v", op)
	}
	r.ticksUntil(limit, t, &o, "nothing is due, spilled or left to do in the journal", func() string {
		q := r.queues(t)
		if q.coming+q.spilled+q.unjournaled+q.ending == 0 {
			return ""
		}
		return q.String()
	})
	o.audit = r.audit(t)
	return o
}

// ticksUntil ticks until done returns nothing; else it returns what is missing.
func (r *run) ticksUntil(ctx context.Context, t *testing.T, o *operated, what string, done func() string) {
	t.Helper()
	said := time.Now()
	for {
		res, err := r.stack.Host.Invoke(ctx, lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		o.ticks++
		missing := done()
		switch {
		case missing == "":
			return
		case ctx.Err() != nil:
			t.Fatalf("not in time: %s: %s", what, missing)
		case err != nil || res.FunctionError != "":
			t.Errorf("replay: %v %s", err, res.Payload)
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			_, _ = fmt.Fprintf(os.Stdout, "wipe: until %s: %s\n", what, missing)
		}
		_ = delay.Sleep(ctx, between)
	}
}

// queues are sums over all sinks.
type queues struct {
	coming                       int64 // due, scheduled, or leased by a replay
	spilled, unjournaled, ending int64
	text                         string
}

func (q queues) String() string { return q.text }

func (r *run) queues(t *testing.T) (q queues) {
	t.Helper()
	status, body := r.api(http.MethodGet, "/v1/sinks", "")
	var answer struct {
		Sinks []struct {
			Name                         string
			States                       map[string]int64
			Spilled, Unjournaled, Ending int64
		}
	}
	if status != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		t.Fatalf("sinks: %d %s", status, body)
	}
	for _, s := range answer.Sinks {
		q.coming += s.States["due"] + s.States["scheduled"] + s.States["replaying"]
		q.spilled += s.Spilled
		q.unjournaled += s.Unjournaled
		q.ending += s.Ending
		q.text += fmt.Sprintf("%s: %v, spilled %d, unjournaled %d, ending %d; ", s.Name, s.States, s.Spilled, s.Unjournaled, s.Ending)
	}
	return q
}

// auditLine is what an audit prints when nothing is lost, and nothing is left to do.
var auditLine = regexp.MustCompile(`^letters=\d+ queued=\d+ spilled=0 ending=0 unjournaled=0 lost=0$`)

// audit has the CLI do it, and returns its line.
func (r *run) audit(t *testing.T) string {
	t.Helper()
	c := exec.CommandContext(r.ctx, filepath.Join(r.bin, "backstop"), "dlq", "audit", "--api", r.stack.APIURL)
	c.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := c.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	line := lines[len(lines)-1]
	if err != nil || !auditLine.MatchString(line) {
		t.Errorf("audit: %v\n%s", err, out)
	}
	return line
}
