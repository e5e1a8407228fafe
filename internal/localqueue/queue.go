package localqueue

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxDelay      = 900   // seconds
	maxWait       = 20    // seconds, of a long poll
	maxHide       = 43200 // seconds
	maxVisibility = maxHide * time.Second
	dedupWindow   = 5 * time.Minute
	// overhead is what a message, or a remembered deduplication id, takes beside its text.
	overhead = 512
)

// queue is the state of one queue. Its service's mutex guards it.
type queue struct {
	Config
	fifo    bool
	created time.Time
	redrive *queue // nil: none

	messages *list.List // of *message, in the order of their sending
	byID     map[string]*list.Element
	room     *room
	watch    func(Event) // nil: nobody watches
	sequence uint64

	seen  map[string]*sighting // deduplication ids of the last five minutes
	order *list.List           // of *sighting, oldest first

	changed chan struct{} // closed when something may have become visible
}

// room is the memory that the queues of a service share.
type room struct{ left int }

// message is a message in a queue.
type message struct {
	text
	id       string
	sequence uint64
	sent     time.Time
	first    time.Time // received; zero: never
	receives int
	source   string    // ARN of the queue that gave it up; empty: none
	visible  time.Time // hidden before
	inFlight bool      // received, and hidden for that
}

// sighting remembers a deduplication id.
type sighting struct {
	id   string
	at   time.Time
	told sent
}

// sent is the answer to a message that was taken.
type sent struct {
	id       string
	sequence uint64 // 0: not FIFO
}

func newQueue(c Config, r *room) *queue {
	c.Visibility = cmp.Or(c.Visibility, 30*time.Second)
	return &queue{
		Config: c, fifo: strings.HasSuffix(c.Name, fifoSuffix), created: time.Now(), room: r,
		messages: list.New(), byID: map[string]*list.Element{}, seen: map[string]*sighting{}, order: list.New(), changed: make(chan struct{}),
	}
}

func (q *queue) arn() string { return fmt.Sprintf("arn:aws:sqs:%s:%s:%s", region, account, q.Name) }

// wake has waiting receivers look again.
func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// send takes a message that was checked.
func (q *queue) send(t text, now time.Time) (sent, error) {
	q.forget(now)
	if s := q.seen[t.dedup]; q.fifo && s != nil {
		return s.told, nil
	}
	need := t.size() + overhead
	if q.fifo {
		need += overhead
	}
	if need > q.room.left {
		return sent{}, errFull
	}
	m := &message{text: t, id: newID(), sent: now, visible: now}
	if t.delay != nil {
		m.visible = now.Add(time.Duration(*t.delay) * time.Second)
	}
	q.add(m)
	q.tell(Sent, m)
	told := sent{id: m.id}
	if q.fifo {
		told.sequence = m.sequence
		q.seen[t.dedup] = &sighting{id: t.dedup, at: now, told: told}
		q.order.PushBack(q.seen[t.dedup])
		q.room.left -= overhead
	}
	return told, nil
}

func (q *queue) add(m *message) {
	q.sequence++
	m.sequence = q.sequence
	q.byID[m.id] = q.messages.PushBack(m)
	q.room.left -= m.size() + overhead
	q.wake()
}

func (q *queue) remove(e *list.Element) {
	m := q.messages.Remove(e).(*message) //nolint:errcheck,forcetypeassert // nothing else is in the list
	delete(q.byID, m.id)
	q.room.left += m.size() + overhead
	q.wake()
}

// forget forgets deduplication ids whose time is over.
func (q *queue) forget(now time.Time) {
	for e := q.order.Front(); e != nil; e = q.order.Front() {
		s := e.Value.(*sighting) //nolint:errcheck,forcetypeassert // nothing else is in the list
		if now.Sub(s.at) < dedupWindow {
			break
		}
		q.order.Remove(e)
		delete(q.seen, s.id)
		q.room.left += overhead
	}
}

// tell tells who watches.
func (q *queue) tell(what What, m *message) {
	if q.watch != nil {
		q.watch(Event{Queue: q.Name, What: what, Body: m.body})
	}
}

func messageOf(e *list.Element) *message {
	return e.Value.(*message) //nolint:errcheck,forcetypeassert // nothing else is in the list
}

// wanted is what a receiver asks for.
type wanted struct {
	most int
	hide time.Duration
	wait time.Duration
}

// received is a message as a receiver gets it.
type received struct {
	message
	handle string
}

// receive waits until there is something to hand out, for at most w.wait. mu is held but while
// it waits. A receiver that goes away takes nothing.
func (q *queue) receive(ctx context.Context, mu sync.Locker, w wanted) []received {
	end := time.Now().Add(w.wait)
	for ctx.Err() == nil {
		now := time.Now()
		got, next := q.take(now, w)
		if len(got) > 0 || !now.Before(end) {
			return got
		}
		if next.IsZero() || next.After(end) {
			next = end
		}
		changed, timer := q.changed, time.NewTimer(next.Sub(now))
		mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		mu.Lock()
	}
	return nil
}

// take hands out what can be, and says when the next hidden message becomes visible; zero: none is hidden.
func (q *queue) take(now time.Time, w wanted) (got []received, next time.Time) {
	blocked := map[string]bool{} // groups of a FIFO queue
	for e := q.messages.Front(); e != nil && len(got) < w.most; {
		m, this := messageOf(e), e
		e = e.Next()
		if now.Before(m.visible) {
			blocked[m.group] = true
			if next.IsZero() || m.visible.Before(next) {
				next = m.visible
			}
			continue
		}
		if q.fifo && blocked[m.group] {
			continue
		}
		m.inFlight = false
		if q.redrive != nil && m.receives >= q.MaxReceives {
			q.giveUp(this, now)
			continue
		}
		m.receives++
		if m.first.IsZero() {
			m.first = now
		}
		m.inFlight, m.visible = w.hide > 0, now.Add(w.hide)
		q.tell(Received, m)
		got = append(got, received{*m, handleOf(m)})
	}
	return got, next
}

// giveUp moves a message to the redrive queue. As in SQS, a standard queue's message keeps the
// time of its sending.
func (q *queue) giveUp(e *list.Element, now time.Time) {
	m := messageOf(e)
	q.remove(e)
	m.source, m.visible, m.delay = q.arn(), now, nil
	if q.fifo {
		m.sent = now
	}
	q.redrive.add(m)
}

// A handle names a message and its receive.
func handleOf(m *message) string {
	return hex.EncodeToString(fmt.Appendf(nil, "%s#%d", m.id, m.receives))
}

// find returns the message of a handle, nil when it is gone, and whether the handle is of its
// last receive.
func (q *queue) find(handle string) (e *list.Element, last bool, err error) {
	if handle == "" {
		return nil, false, missing("ReceiptHandle")
	}
	b, err := hex.DecodeString(handle)
	id, n, ok := strings.Cut(string(b), "#")
	receive, nerr := strconv.Atoi(n)
	if err != nil || nerr != nil || !ok || receive < 1 {
		return nil, false, errHandle
	}
	e = q.byID[id]
	return e, e != nil && messageOf(e).receives == receive, nil
}

// delete forgets the message of a handle. On a standard queue an older handle is answered as if
// it did, and one whose time is over still does, until the message is received again.
func (q *queue) delete(handle string, now time.Time) error {
	e, last, err := q.find(handle)
	if err != nil || e == nil {
		return err
	}
	if q.fifo && (!last || !now.Before(messageOf(e).visible)) {
		return invalid("Value %s for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.", handle)
	}
	if last {
		q.tell(Deleted, messageOf(e))
		q.remove(e)
	}
	return nil
}

// hide sets how long the message of a handle stays hidden from now; 0 gives it back.
func (q *queue) hide(handle string, seconds int, now time.Time) error {
	if seconds < 0 || seconds > maxHide {
		return outOfRange("VisibilityTimeout", seconds, 0, maxHide)
	}
	e, last, err := q.find(handle)
	switch {
	case err != nil:
		return err
	case e == nil || !last || !now.Before(messageOf(e).visible):
		return errNotInFlight
	}
	m := messageOf(e)
	m.visible = now.Add(time.Duration(seconds) * time.Second)
	m.inFlight = seconds > 0
	q.wake()
	return nil
}

// counts says how many messages can be received, are received, and are delayed.
func (q *queue) counts(now time.Time) (ready, inFlight, delayed int) {
	for e := q.messages.Front(); e != nil; e = e.Next() {
		switch m := messageOf(e); {
		case !now.Before(m.visible):
			ready++
		case m.inFlight:
			inFlight++
		default:
			delayed++
		}
	}
	return ready, inFlight, delayed
}

// newID makes a message's id in the form of SQS'.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
