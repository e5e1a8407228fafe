//go:build full

package races

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/delay"
	"backstop/internal/faultproxy"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

var flagEdits = flag.Int("edits.n", 150, "dead letters that are edited")

// The sinks of the edits: a message comes to home, and cannot arrive there as it is.
const (
	home   = "home"
	abroad = "abroad"
)

// change is what an operator makes of a dead letter.
type change struct {
	body string // empty: as it is
	sink string // empty: home
	at   time.Duration
	told told
	by   string // what it says that supersedes the dead letter
	ends string // the status that it was told with
}

// content is what arrives of it, and where.
func (c change) content() string { return cmp.Or(c.sink, home) + " " + cmp.Or(c.body, "old") }

// arrival is a request as its receiver saw it.
type arrival struct {
	seen
	content string
}

// edited is one dead letter and all that operators do about it.
type edited struct {
	id, item string
	answer   func(*rand.Rand) int // its receiver's, once it is edited
	changes  []*change
	resent   []time.Duration // when it is replayed as it is
	trigger  trigger         // what the cancellation races against: begun, once changed; start
	cancel   time.Duration
	begun    once

	mu       sync.Mutex
	arrivals []arrival
	canceled []told
}

func (e *edited) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%s):", e.id, e.item)
	for _, c := range e.changes {
		fmt.Fprintf(&out, " edit to %q %s-%s %d %s%s %s;", c.content(), c.told.asked.Format("05.000"), c.told.at.Format("05.000"), c.told.status, c.told.code, c.ends, c.by)
	}
	for _, a := range e.arrivals {
		fmt.Fprintf(&out, " %q arrived %s %d;", a.content, a.at.Format("05.000"), a.status)
	}
	fmt.Fprintf(&out, " cancellations %v", short(e.canceled))
	return out.String()
}

// desk is where operators edit.
type desk struct {
	world  // its calls, its log and its random numbers
	all    []*edited
	byID   map[string]*edited
	killed atomic.Int64
}

func newDesk(n int, seed uint64) *desk {
	d := &desk{world: world{unguarded: map[string]bool{}, rand: rand.New(rand.NewPCG(seed, 3))}, byID: map[string]*edited{}}
	within := func(most time.Duration) time.Duration { return time.Duration(d.rand.Int64N(int64(most))) }
	for i := range n {
		e := &edited{id: fmt.Sprintf("edit-%d-%d", seed, i), answer: receivers[d.rand.IntN(len(receivers)-1)].answer}
		e.begun.done = make(chan struct{})
		for k := range 1 + d.rand.IntN(5)/3 { // two in some cases
			c := &change{body: fmt.Sprintf("new-%d", k), at: within(300 * time.Millisecond)}
			switch d.rand.IntN(4) {
			case 0:
				c.sink = abroad
			case 1:
				c.sink, c.body = abroad, ""
			}
			e.changes = append(e.changes, c)
		}
		if d.rand.IntN(3) == 0 {
			e.resent = append(e.resent, within(400*time.Millisecond))
		}
		switch d.rand.IntN(4) {
		case 0:
			e.trigger, e.cancel = start, within(500*time.Millisecond)
		case 1, 2:
			e.trigger, e.cancel = begun, time.Duration(d.rand.ExpFloat64()*float64(100*time.Millisecond))
			if d.rand.IntN(2) == 0 { // whoever has it may have died, and its lease is over
				e.cancel += functionT + 6*time.Second
			}
		}
		d.all, d.byID[e.id] = append(d.all, e), e
	}
	return d
}

// ServeHTTP is both receivers.
func (d *desk) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	at := time.Now()
	var sent struct{ Body string }
	err := json.NewDecoder(q.Body).Decode(&sent)
	e := d.byID[q.Header.Get("Webhook-Id")]
	if e == nil || err != nil {
		http.Error(rw, "whose is this?", http.StatusTeapot)
		return
	}
	content, status := strings.TrimPrefix(q.URL.Path, "/")+" "+sent.Body, http.StatusNotFound
	changed := content != home+" old"
	if changed {
		status = roll(&d.world, e.answer)
	}
	e.mu.Lock()
	e.arrivals = append(e.arrivals, arrival{seen{at, status}, content})
	e.mu.Unlock()
	if changed {
		e.begun.tell()
		if roll(&d.world, func(r *rand.Rand) bool { return r.IntN(4) == 0 }) && d.stack.Host.Kill(local.DLQAPI) {
			d.killed.Add(1)
		}
	}
	if status == 0 {
		<-q.Context().Done()
		panic(http.ErrAbortHandler)
	}
	rw.WriteHeader(status)
}

// Operators edit dead letters, send them to another sink, replay them as they are and cancel their deliveries, all at once, while the
// schedule runs, processes are killed and Redis' replies are lost. Of a dead letter and its edits one is delivered at most, and none is lost.
func TestEdits(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("edits: SEED=%d N=%d", seed, *flagEdits)
	d := newDesk(*flagEdits, seed)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	config := "retry: {max_attempts: 2, base_backoff: 50ms, attempt_timeout: 300ms}\nbreaker: off"
	proxy := d.open(ctx, t, seed, d, map[string]string{home: config, abroad: config})
	d.fill(ctx, t)

	proxy.Set(faultproxy.Faults{DropReplies: *flagDrop})
	stop := make(chan struct{})
	var beside, all sync.WaitGroup
	beside.Go(func() { d.replay(ctx, stop) })
	beside.Go(func() { d.trouble(ctx, stop) })
	room := make(chan struct{}, underWay)
	for _, e := range d.all {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			d.operate(ctx, e)
		})
	}
	all.Wait()
	close(stop)
	beside.Wait()
	proxy.Set(faultproxy.Faults{})
	d.end(ctx, t)
	d.judge(ctx, t, len(proxy.Dropped()))
}

// fill has each message fail for good.
func (d *desk) fill(ctx context.Context, t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	room := make(chan struct{}, 10)
	for _, e := range d.all {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			var a struct {
				Status string
				ItemID string `json:"item_id"`
			}
			d.api(ctx, http.MethodPost, "/v1/messages", map[string]any{"id": e.id, "sink": home, "message": map[string]string{"body": "old"}}, &a)
			if e.item = a.ItemID; e.item == "" || a.Status != "dead_lettered" {
				t.Errorf("%s: %+v, want a dead letter", e.id, a)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// api asks with a body that is encoded.
func (d *desk) api(ctx context.Context, method, path string, body, answer any) told {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return d.ask(ctx, method, path, text, http.Header{}, answer)
}

// trouble kills processes.
func (d *desk) trouble(ctx context.Context, stop <-chan struct{}) {
	for !over(stop) {
		f := roll(&d.world, func(r *rand.Rand) string { return []string{local.DLQAPI, local.DLQAPI, local.Replay}[r.IntN(3)] })
		if d.stack.Host.Kill(f) {
			d.killed.Add(1)
		}
		_ = delay.Sleep(ctx, 150*time.Millisecond)
	}
}

// operate plays all that is done about one dead letter.
func (d *desk) operate(ctx context.Context, e *edited) {
	var all sync.WaitGroup
	at := func(after time.Duration, f func()) {
		all.Go(func() {
			if delay.Sleep(ctx, after) == nil {
				f()
			}
		})
	}
	for _, c := range e.changes {
		at(c.at, func() { d.edit(ctx, e, c) })
	}
	for _, after := range e.resent {
		at(after, func() {
			d.api(ctx, http.MethodPost, "/v1/dlq/items/"+e.item+"/replay", map[string]any{}, &struct{}{})
			d.api(ctx, http.MethodPost, "/v1/dlq/items/"+e.item+"/unpark", nil, &struct{}{})
		})
	}
	switch e.trigger {
	case start:
		at(e.cancel, func() { d.giveUp(ctx, e) })
	case begun:
		all.Go(func() {
			e.begun.wait(ctx)
			if delay.Sleep(ctx, e.cancel) == nil {
				d.giveUp(ctx, e)
			}
		})
	case never, answered:
	}
	all.Wait()
}

// edit asks for a change until an answer decides it.
func (d *desk) edit(ctx context.Context, e *edited, c *change) {
	body := map[string]any{}
	if c.body != "" {
		body["message"] = map[string]string{"body": c.body}
	}
	if c.sink != "" {
		body["sink"] = c.sink
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		var answer struct {
			Status       string
			SupersededBy string `json:"superseded_by"`
		}
		a := d.api(ctx, http.MethodPost, "/v1/dlq/items/"+e.item+"/replay", body, &answer)
		e.mu.Lock()
		c.told, c.by, c.ends = a, answer.SupersededBy, answer.Status
		e.mu.Unlock()
		switch a.status {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound:
			return
		}
		_ = delay.Sleep(ctx, 100*time.Millisecond)
	}
}

// giveUp asks for the cancellation until an answer decides it.
func (d *desk) giveUp(ctx context.Context, e *edited) {
	path := "/v1/deliveries?" + url.Values{"sink": {home}, "id": {e.id}}.Encode()
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		a := d.call(ctx, http.MethodDelete, path, nil, false)
		e.mu.Lock()
		e.canceled = append(e.canceled, a)
		e.mu.Unlock()
		if a.status == http.StatusOK || a.code == "ALREADY_DELIVERED" {
			return
		}
		_ = delay.Sleep(ctx, 100*time.Millisecond)
	}
}

// end lets what is left come to its end: leases run out, and what is due is replayed until it is parked.
func (d *desk) end(ctx context.Context, t *testing.T) {
	t.Helper()
	for end := time.Now().Add(functionT + 20*time.Second); time.Now().Before(end); {
		if res, err := d.stack.Host.Invoke(ctx, lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)}); err != nil || res.FunctionError != "" {
			t.Errorf("replay: %v %s", err, res.Payload)
		}
		_ = delay.Sleep(ctx, time.Second)
	}
}

// left is a dead letter that is there in the end.
type left struct {
	id, content  string
	supersededBy string
}

// queued returns the dead letters by delivery id: which there are is read past our code.
func (d *desk) queued(ctx context.Context, t *testing.T) map[string][]left {
	t.Helper()
	all := map[string][]left{}
	for _, sink := range []string{home, abroad} {
		entries, err := d.records.XRange(ctx, "backstop:dlq:"+sink, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			var it struct {
				DeliveryID string `json:"delivery_id"`
				Message    struct{ Body string }
			}
			text, _ := entry.Values["item"].(string)
			if err := json.Unmarshal([]byte(text), &it); err != nil || d.byID[it.DeliveryID] == nil {
				t.Fatalf("entry %s: %v", entry.ID, err)
			}
			l := left{id: sink + "~" + entry.ID, content: sink + " " + it.Message.Body}
			var shown struct {
				SupersededBy string `json:"superseded_by"`
			}
			if a := d.api(ctx, http.MethodGet, "/v1/dlq/items/"+l.id, nil, &shown); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", l.id, a.status, a.code)
			}
			l.supersededBy = shown.SupersededBy
			all[it.DeliveryID] = append(all[it.DeliveryID], l)
		}
	}
	return all
}

// toll counts what became of the edited.
type toll struct {
	delivered, kept, untouched, canceled, mayHaveArrived, already, unguarded, doubled int
	faults                                                                            []string
}

func (a *toll) fault(e *edited, format string, args ...any) {
	if len(a.faults) < 20 {
		a.faults = append(a.faults, fmt.Sprintf(format, args...)+"; "+e.String())
	}
}

func (d *desk) judge(ctx context.Context, t *testing.T, drops int) {
	t.Helper()
	letters := d.queued(ctx, t)
	var a toll
	for _, e := range d.all {
		d.judgeEdit(&a, e, letters[e.id])
	}
	killed := int(d.killed.Load())
	_, _ = fmt.Fprintf(os.Stdout, "\nedits: n=%d delivered=%d kept=%d untouched=%d canceled=%d may_have_arrived=%d already_delivered=%d doubled=%d not_judged=%d killed=%d dropped=%d unexplained=%d\n",
		len(d.all), a.delivered, a.kept, a.untouched, a.canceled, a.mayHaveArrived, a.already, a.doubled, a.unguarded, killed, drops, len(a.faults))
	for _, f := range a.faults {
		t.Error(f)
	}
	if a.doubled > killed+drops {
		t.Errorf("%d arrived more than once and were answered, for %d kills and %d lost replies", a.doubled, killed, drops)
	}
	if a.delivered == 0 || a.kept == 0 || a.canceled == 0 || a.mayHaveArrived == 0 || a.already == 0 || killed == 0 || drops == 0 {
		t.Error("the edits were too few: one of these is 0 that must not be")
	}
}

func (d *desk) judgeEdit(a *toll, e *edited, letters []left) {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := d.judgeArrivals(a, e)
	var canceled *told
	already := false
	for i, c := range e.canceled {
		if c.status == http.StatusOK {
			canceled = &e.canceled[i]
		}
		already = already || c.code == "ALREADY_DELIVERED"
	}
	if canceled != nil {
		d.judgeCanceled(a, e, *canceled, taken, letters)
		return
	}
	var old *left
	heirs := slices.DeleteFunc(slices.Clone(letters), func(l left) bool { return l.id == e.item })
	for i := range letters {
		if letters[i].id == e.item {
			old = &letters[i]
		}
	}
	if already {
		a.already++
		if taken == 0 {
			a.fault(e, "ALREADY_DELIVERED, and no receiver ever took it")
		}
	}
	switch {
	case old == nil && already && len(heirs) == 0: // a cancellation that was refused removes what waits of it
		a.delivered++
	case old == nil:
		a.fault(e, "it is gone, and nobody removed it")
	case len(heirs) > 1:
		a.fault(e, "%d dead letters supersede it", len(heirs))
	case len(heirs) == 1 && old.supersededBy != heirs[0].id:
		a.fault(e, "%s is made of it, and it says that %q supersedes it", heirs[0].id, old.supersededBy)
	case len(heirs) == 1:
		a.kept++
	case old.supersededBy == "":
		a.untouched++
		if taken > 0 {
			a.fault(e, "an edit was sent, and nothing supersedes it")
		}
	case !strings.Contains(old.supersededBy, "~"):
		a.untouched++ // whoever moved it died: asking again ends it
	case taken == 0:
		a.fault(e, "LOST: superseded by %s, which is gone and was never sent", old.supersededBy)
	default:
		a.delivered++
	}
}

// judgeArrivals holds what arrived against what was told of edits, and returns how often an edit was taken: answered with 200, or not at all.
func (d *desk) judgeArrivals(a *toll, e *edited) (taken int) {
	contents := map[string]bool{}
	answers := 0
	for _, q := range e.arrivals {
		if q.content == home+" old" {
			continue
		}
		contents[q.content] = true
		switch q.status {
		case http.StatusOK:
			taken++
			answers++
		case 0:
			taken++
		}
	}
	if len(contents) > 1 {
		a.fault(e, "two edits were sent")
	}
	a.doubled += max(answers-1, 0)
	for _, c := range e.changes {
		if c.told.status != http.StatusOK {
			continue
		}
		if c.ends == "delivered" && answers == 0 {
			a.fault(e, "an edit is told as delivered, and was not")
		}
		for _, q := range e.arrivals {
			if q.content != c.content() && q.at.After(c.told.at) {
				a.fault(e, "%q is sent at %s, after %q superseded it", q.content, q.at.Format("05.000"), c.content())
			}
		}
	}
	return taken
}

// judgeCanceled holds a delivery that was canceled against what its caller was told.
func (d *desk) judgeCanceled(a *toll, e *edited, c told, taken int, letters []left) {
	a.canceled++
	if c.answer.MayHaveArrived {
		a.mayHaveArrived++
	}
	d.logMu.Lock()
	missed := d.unguarded[e.id]
	d.logMu.Unlock()
	if missed { // as in judgeOne
		a.unguarded++
		return
	}
	for _, q := range e.arrivals {
		if q.at.After(c.at) {
			a.fault(e, "sent at %s, after it was canceled at %s", q.at.Format("05.000"), c.at.Format("05.000"))
		}
	}
	if taken > 0 && !c.answer.MayHaveArrived {
		a.fault(e, "canceled without may_have_arrived, and its receiver had taken it")
	}
	if len(letters) > 0 {
		a.fault(e, "canceled, and %d dead letters are left", len(letters))
	}
}
