//go:build full

package wipe

import (
	"context"
	"encoding/base32"
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

	"github.com/google/uuid"

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
	missing  []int // deliveries that the queue lacked before it was restored, though they came after the last wipe
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
	o.missing = r.missing(t)
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

// missing returns the deliveries whose dead letters came after the last wipe and are in the journal alone: a
// restore would hide that they were lost on their way back.
func (r *run) missing(t *testing.T) (missing []int) {
	t.Helper()
	entries, last := r.queued(t), time.Time{}
	for _, w := range r.wipes {
		last = w.until
	}
	for _, l := range r.bucket.Lives(bucket, "wipe/open/") {
		if !l.Until.IsZero() || pushed(t, l.Name).Before(last) {
			continue
		}
		for _, text := range lines(l.Body) {
			if text == "null" {
				continue
			}
			if i, _ := r.read(t, text); len(entries[i]) == 0 && len(r.w.Arrivals(i)) == 0 {
				missing = append(missing, i)
			}
		}
	}
	return missing
}

// pushed is when a push named its object: before it wrote anything.
func pushed(t *testing.T, name string) time.Time {
	t.Helper()
	nonce, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "-")
	nonce, _, _ = strings.Cut(nonce, ".")
	id, err := base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).DecodeString(nonce)
	if err != nil || len(id) != 16 {
		t.Fatalf("%s: when it was named is not known: %v", name, err)
	}
	sec, nsec := uuid.UUID(id).Time().UnixTime()
	return time.Unix(sec, nsec)
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
