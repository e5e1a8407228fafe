//go:build full

package wipe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"backstop/internal/local"
)

// depths reads how many dead letters each sink has, past the proxy and past our code.
func (r *run) depths(t *testing.T) map[string]int64 {
	t.Helper()
	depths := map[string]int64{}
	for _, c := range classes {
		n, err := r.redis.XLen(context.Background(), stream(c.name)).Result()
		if err != nil {
			t.Fatal(err)
		}
		depths[c.name] = n
	}
	return depths
}

func stream(sink string) string { return "backstop:dlq:" + sink }

// queued reads every dead letter that Redis has, likewise.
func (r *run) queued(t *testing.T) map[int][]entry {
	t.Helper()
	entries := map[int][]entry{}
	for _, c := range classes {
		messages, err := r.redis.XRange(context.Background(), stream(c.name), "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		states, err := r.redis.HGetAll(context.Background(), "{"+stream(c.name)+"}:state").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			raw, _ := m.Values["item"].(string)
			i, e := r.read(t, raw)
			var state struct{ Parked, Held bool }
			if text := states[m.ID]; text != "" {
				if err := json.Unmarshal([]byte(text), &state); err != nil {
					t.Fatalf("state of %s: %s: %v", m.ID, text, err)
				}
			}
			e.parked, e.held = state.Parked, state.Held
			entries[i] = append(entries[i], e)
		}
	}
	return entries
}

// read reads a dead letter, of which delivery it is.
func (r *run) read(t *testing.T, text string) (int, entry) {
	t.Helper()
	var it struct {
		DeliveryID string `json:"delivery_id"`
		Reason     string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(text), &it); err != nil {
		t.Fatalf("dead letter %s: %v", text, err)
	}
	i, ok := r.w.index(it.DeliveryID)
	if !ok {
		t.Fatalf("a dead letter of no delivery: %s", text)
	}
	return i, entry{reason: it.Reason}
}

// stateful returns the deliveries whose dead letters are parked or held, and of which the journal
// knows it.
func (r *run) stateful(t *testing.T) map[int]bool {
	t.Helper()
	letters := map[string]int{} // by address
	for _, l := range r.bucket.Lives(bucket, "wipe/open/") {
		for n, text := range lines(l.Body) {
			if text != "null" {
				i, _ := r.read(t, text)
				letters[fmt.Sprintf("%s:%d", strings.TrimSuffix(strings.TrimPrefix(l.Name, "wipe/open/"), ".ndjson"), n)] = i
			}
		}
	}
	stateful := map[int]bool{}
	entries := r.queued(t)
	for _, name := range r.bucket.Names(bucket, "wipe/state/") {
		i, ok := letters[strings.TrimPrefix(name, "wipe/state/")]
		if ok && len(entries[i]) == 1 && (entries[i][0].parked || entries[i][0].held) {
			stateful[i] = true
		}
	}
	return stateful
}

func lines(body []byte) []string {
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
}

// result is the account of a run.
type result struct {
	fates       map[fate]int
	again       map[why]int
	spilled     int // deliveries that the journal took because Redis did not
	returned    int // of these, those that came back before all was sent
	stateful    int // parked or held before a wipe, and after it
	parked      int // in the queue at the end
	held        int
	wrong       []string
	wrongTotal  int
	lettersOpen int
}

func (r *result) add(format string, args ...any) {
	if r.wrongTotal++; r.wrongTotal <= 20 {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// account holds every delivery against what arrived, what is stored, and what the journal had when.
func (r *run) account(t *testing.T) *result {
	t.Helper()
	out := &result{fates: map[fate]int{}, again: map[why]int{}}
	entries := r.queued(t)
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	f := faults{kills: r.kills[local.Replay], drops: r.proxy.Dropped(), send: functionT, replay: replayT}
	for _, w := range r.wipes {
		f.wipes = append(f.wipes, w.span)
	}
	open, ever := r.journaled(t, out)
	for i := range r.fates {
		h := r.fates[i]
		h.unsure, h.unguarded, h.unrecorded, h.recorded = r.log.unsure[i], r.log.unguarded[i], r.log.unrecorded[i], r.log.recorded[i]
		h.arrivals, h.lives, h.stored = r.w.Arrivals(i), ever[i], entries[i]
		became, again, wrong := f.judge(h)
		out.fates[became]++
		for _, w := range again {
			out.again[w]++
		}
		for _, text := range wrong {
			out.add("%s (%s): %s%s", r.w.id(i), r.w.classOf(i).name, text, tell(h, r.began()))
		}
		if len(entries[i]) != open[i] {
			out.add("%s (%s): %d times in the queue, %d times in the journal", r.w.id(i), r.w.classOf(i).name, len(entries[i]), open[i])
		}
		for _, e := range entries[i] {
			out.lettersOpen++
			if e.parked {
				out.parked++
			}
			if e.held {
				out.held++
			}
		}
		for _, w := range r.wipes {
			if !w.state[i] {
				continue
			}
			out.stateful++
			if len(entries[i]) != 1 || !entries[i][0].parked && !entries[i][0].held {
				out.add("%s (%s) was parked or held before Redis was wiped, and is not: %+v, arrived %d times", r.w.id(i), r.w.classOf(i).name, entries[i], len(h.arrivals))
			}
		}
	}
	return out
}

func (r *run) began() time.Time { return r.fates[0].begun }

// tell tells a delivery's story, in seconds since the run began.
func tell(h history, began time.Time) string {
	var b strings.Builder
	at := func(what string, times ...time.Time) {
		if len(times) == 0 {
			return
		}
		fmt.Fprintf(&b, "; %s", what)
		for _, t := range times {
			if t.IsZero() {
				b.WriteString(" -")
				continue
			}
			fmt.Fprintf(&b, " %.3f", t.Sub(began).Seconds())
		}
	}
	at("sent", h.begun)
	at("acknowledged", h.acked)
	at("died", h.died...)
	at("unsure", h.unsure...)
	at("unguarded", h.unguarded...)
	at("unrecorded", h.unrecorded...)
	at("recorded", h.recorded...)
	at("arrived", h.arrivals...)
	for _, l := range h.lives {
		at("in the journal", l.from, l.until)
	}
	return b.String()
}

// journaled reads which dead letters the journal has, how often each, and when it had which.
func (r *run) journaled(t *testing.T, out *result) (open map[int]int, ever map[int][]span) {
	t.Helper()
	open, ever = map[int]int{}, map[int][]span{}
	spilled, returned := map[int]bool{}, map[int]bool{}
	sent := time.Time{}
	for _, h := range r.fates {
		if h.acked.After(sent) {
			sent = h.acked
		}
	}
	for _, l := range r.bucket.Lives(bucket, "wipe/") {
		kind, _, _ := strings.Cut(strings.TrimPrefix(l.Name, "wipe/"), "/")
		if kind == "state" {
			if l.Until.IsZero() && out != nil {
				out.stateOf(r, l.Name)
			}
			continue
		}
		for _, text := range lines(l.Body) {
			if text == "null" {
				continue
			}
			i, _ := r.read(t, text)
			ever[i] = append(ever[i], span{l.From, l.Until})
			switch kind {
			case "open":
				if l.Until.IsZero() {
					open[i]++
				}
			case "spill":
				spilled[i] = true
				if l.Until.IsZero() {
					out.add("%s (%s): still spilled, in %s", r.w.id(i), r.w.classOf(i).name, l.Name)
				} else if l.Until.Before(sent) {
					returned[i] = true
				}
			default:
				out.add("%s: a name of no kind", l.Name)
			}
		}
	}
	out.spilled, out.returned = len(spilled), len(returned)
	return open, ever
}

// stateOf finds states whose dead letters are gone.
func (r *result) stateOf(run *run, name string) {
	group, _, _ := strings.Cut(strings.TrimPrefix(name, "wipe/state/"), ":")
	if len(run.bucket.Names(bucket, "wipe/open/"+group+".ndjson")) == 0 {
		r.add("%s is left of a dead letter that the journal has no more", name)
	}
}

// wantFaults fails the test when a fault did not happen: then it has shown nothing.
func (r *run) wantFaults(t *testing.T, out *result, o operated) {
	t.Helper()
	want := func(what string, happened bool) {
		if !happened {
			t.Errorf("the run was too short for its faults: %s", what)
		}
	}
	want("Redis was not wiped twice", len(r.wipes) == len(wipes))
	for n, w := range r.wipes {
		total := int64(0)
		for _, d := range w.depth {
			total += d
		}
		want(fmt.Sprintf("wipe %d: nothing was lost", n+1), total > 0)
		want(fmt.Sprintf("wipe %d: no sink was full", n+1), w.full)
	}
	want("nothing was restored while the rest went on", r.first.Restore.Restored > 0)
	want("nothing was restored at the end", o.restored.Restore.Restored > 0)
	want("nothing was spilled", out.spilled > 0)
	want("nothing that was spilled came back before the end", out.returned > 0)
	want("nothing that was parked or held was lost and restored", out.stateful > 0)
	want("no request to the journal was slow", r.bucket.Slow.Load() > 0)
	want("no request to the journal failed", r.bucket.Failed.Load() > 0)
	want("no answer of the journal was lost", r.bucket.Cut.Load() > 0)
	want("no reply of Redis was lost", len(r.proxy.Dropped()) > 0)
	for _, f := range []string{local.Queue, local.Send, local.Replay} {
		want("no process of "+f+" was killed", len(r.kills[f]) > 0)
	}
	for _, f := range []string{local.Queue, local.Send, local.Replay, local.DLQAPI} {
		if n := r.stack.Host.Stats(f).Timeouts; n > 0 {
			t.Errorf("%s passed its deadline %d times", f, n)
		}
	}
}

func (r *result) print(run *run, o operated, seed uint64, sent, took time.Duration) {
	t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	row := func(what string, n any) { _, _ = fmt.Fprintf(t, "  %s\t%v\n", what, n) }
	again := 0
	for _, n := range r.again {
		again += n
	}
	restored := run.first.Restore.Restored + o.restored.Restore.Restored
	kills := 0
	for _, k := range run.kills {
		kills += len(k)
	}
	_, _ = fmt.Fprintf(t, "\nwipe: seed %d, sent in %s, done in %s\n\n", seed, sent.Round(time.Second), took.Round(time.Second))
	row("deliveries accepted", len(run.fates))
	row("  delivered", r.fates[delivered])
	row("  dead-lettered: an operator decides", r.fates[deadLettered])
	row("    parked", r.parked)
	row("    held", r.held)
	row("  handed back for good", r.fates[handedBack])
	row("handed back and sent again", run.back)
	row("spilled", r.spilled)
	row("  back in the queue while the rest was sent", r.returned)
	row("  waiting when all was sent", o.back)
	for n, w := range run.wipes {
		total := int64(0)
		for _, d := range w.depth {
			total += d
		}
		row(fmt.Sprintf("wipe %d: dead letters that Redis lost", n+1), total)
	}
	row("restored", restored)
	row("  while the rest was sent", run.first.Restore.Restored)
	row("  when all was sent", o.restored.Restore.Restored)
	row("parked or held before a wipe, and after it", r.stateful)
	row("second arrivals", again)
	for _, w := range []why{whyRestored, whyResent, whyDied, whyReplayDied, whyUnrecorded, whyUnguarded, whyUnsure} {
		row("  "+string(w), r.again[w])
	}
	row("processes killed", kills)
	row("replies of Redis lost", len(run.proxy.Dropped()))
	row("requests to the journal: slow by a second", run.bucket.Slow.Load())
	row("  failed", run.bucket.Failed.Load())
	row("  carried out without an answer", run.bucket.Cut.Load())
	row("runs of the schedule", run.ticks+o.ticks)
	_, _ = fmt.Fprintf(t, "\naudit: %s\n", o.audit)
	_, _ = fmt.Fprintf(t, "\nwipe: accepted=%d delivered=%d dead_lettered=%d spilled=%d wipes=%d restored=%d resent=%d handed_back=%d lost=%d unexplained=%d\n",
		len(run.fates), r.fates[delivered], r.fates[deadLettered], r.spilled, len(run.wipes), restored, again, r.fates[handedBack], r.fates[lost], r.wrongTotal-r.fates[lost])
	_ = t.Flush()
}
