//go:build full

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/redis/go-redis/v9"

	"backstop/internal/delay"
	"backstop/internal/local"
	"backstop/lib/delivery"
)

// way is how a delivery comes to Backstop.
type way int

const (
	queued way = iota // in a batch of a queue of its caller's own
	posted            // POST
	async             // POST with respond-async, and by the stack's queue
	later             // POST with send_after, likewise
)

// sendAfter is how much later what comes as later is sent.
const sendAfter = time.Second

func wayOf(i int) way {
	switch {
	case i%10 == 9:
		return posted
	case i%20 == 7:
		return async
	case i%20 == 17:
		return later
	}
	return queued
}

// accepted reports whether a delivery is answered before it is sent.
func (w way) accepted() bool { return w == async || w == later }

// terms are when a delivery is canceled and when it expires, counted from when it is first sent.
type terms struct {
	cancel, expire time.Duration // zero: never
}

// newTerms draws a delivery's terms: most times are soon, so that they race with what is done. One
// whose id is used for two contents has none.
func newTerms(r *rand.Rand, i int, c class) (t terms) {
	cancel, expire := r.IntN(100), r.IntN(100)
	soon := func(within time.Duration) time.Duration {
		x := r.Float64()
		return 10*time.Millisecond + time.Duration(x*x*x*float64(within))
	}
	at, end := soon(2*time.Second), soon(3*time.Second)
	if twin(i) || twin(i+1) {
		return terms{}
	}
	share := 5
	if wayOf(i).accepted() {
		share = 25
	}
	if c.blurred { // it may have arrived
		share = 50
	}
	if cancel < share {
		t.cancel = at
	}
	switch {
	case expire < 12: // while it is sent, or waits in the queue or among the dead letters
		if t.expire = end; wayOf(i) == later {
			t.expire += sendAfter
		}
	case expire < 15: // long after
		t.expire = time.Hour
	}
	return t
}

// told is what the caller of a delivery knows of its times.
type told struct {
	begun               sync.Once
	expires             time.Time // zero: never
	notBefore           time.Time // zero: at once
	canceled            time.Time // when a DELETE was answered so; zero: none was
	mayHaveArrived      bool      // what it said
	already             bool      // a DELETE was answered with ALREADY_DELIVERED
	late                bool      // refused for good: its time was over
	forgotten, returned bool      // its record was evicted when it was accepted or canceled; its queue gave it up
}

// begin fixes a delivery's times, when it is first sent.
func (s *soak) begin(i int) {
	s.told[i].begun.Do(func() {
		t, now := s.w.terms[i], time.Now()
		if t.expire > 0 {
			s.mu.Lock()
			s.told[i].expires = now.Add(t.expire)
			s.w.checker.Expire(i, s.told[i].expires)
			s.mu.Unlock()
		}
		if t.cancel > 0 {
			s.cancels.Go(func() {
				if delay.Sleep(s.ctx, t.cancel) == nil {
					s.cancel(i)
				}
			})
		}
	})
}

// request is the bare request of a delivery.
func (s *soak) request(i int) string {
	s.mu.Lock()
	expires := s.told[i].expires
	s.mu.Unlock()
	more := ""
	if !expires.IsZero() {
		more = fmt.Sprintf(`,"expires_at":%q`, expires.UTC().Format(time.RFC3339Nano))
	}
	if wayOf(i) == later {
		more += fmt.Sprintf(`,"send_after":%q`, sendAfter)
	}
	return s.w.request(i, more)
}

// cancel asks for a cancellation until it is decided.
func (s *soak) cancel(i int) {
	query := url.Values{"sink": {s.w.classOf(i).name}, "id": {s.w.id(i)}}.Encode()
	for s.ctx.Err() == nil {
		s.w.checker.Canceling(i)
		status, answer := s.call(http.MethodDelete, "/v1/deliveries?"+query, "", nil)
		at := time.Now()
		decided := status == http.StatusOK || answer.Code == "ALREADY_DELIVERED"
		s.w.checker.CancelTold(i, status == http.StatusOK, answer.MayHaveArrived, decided || status == http.StatusConflict)
		if decided {
			s.mu.Lock()
			if t := s.told[i]; status == http.StatusOK {
				t.canceled, t.mayHaveArrived = at, answer.MayHaveArrived
			} else {
				t.already = true
			}
			waits := s.fates[i].acked && wayOf(i).accepted()
			s.mu.Unlock()
			if waits && rand.IntN(2) == 0 {
				s.forget(i) // its message may come yet
			}
			return
		}
		_ = delay.Sleep(s.ctx, 100*time.Millisecond)
	}
}

// answer is what the API's answers and problems have.
type answer struct {
	ID             string // of an operation
	Code, Status   string
	NotBefore      time.Time `json:"not_before"`
	MayHaveArrived bool      `json:"may_have_arrived"`
}

// call calls the API; status 0 means that there was no answer.
func (s *soak) call(method, path, body string, header http.Header) (status int, a answer) {
	req, err := http.NewRequestWithContext(s.ctx, method, s.stack.APIURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, a
	}
	maps.Copy(req.Header, header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, a
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, a
	}
	_ = json.Unmarshal(text, &a) // what is no object has nothing of it
	return resp.StatusCode, a
}

// forgetWaiting forgets the record of a delivery that waits or was canceled, as a cache does that
// is full.
var forgetWaiting = redis.NewScript(`
local text = redis.call('GET', KEYS[1])
local status = text and cjson.decode(text).status
if status == 'accepted' or status == 'canceled' then
  return redis.call('DEL', KEYS[1])
end
return 0`)

// evictWaiting evicts the record of one in eight deliveries that were accepted for later. Nobody
// sends it again, so that only its message in the queue can come after that.
func (s *soak) evictWaiting(i int) {
	if rand.IntN(8) > 0 {
		return
	}
	s.cancels.Go(func() {
		_ = delay.Sleep(s.ctx, time.Duration(rand.Int64N(int64(1500*time.Millisecond)))) // when it ends nothing matters
		for range 10 {
			if s.forget(i) {
				return
			}
			_ = delay.Sleep(s.ctx, 50*time.Millisecond)
		}
	})
}

// forget evicts the record of a delivery that waits or was canceled, and reports whether there was
// one.
func (s *soak) forget(i int) bool {
	keys, _ := s.w.record(i) // what waits or is canceled has a key of its own
	n := s.evicts(i, func() (int64, error) { return forgetWaiting.Run(s.ctx, s.records, keys[:1]).Int64() })
	if n == 0 {
		return false // Redis is away just now, or there is none
	}
	s.mu.Lock()
	s.told[i].forgotten = true
	s.mu.Unlock()
	s.evictedWaiting.Add(1)
	return true
}

// empty waits until the stack's queue has given out everything, and returns what it gave up.
func (s *soak) empty(t *testing.T) {
	t.Helper()
	for s.stack.Queues.Waiting(local.QueueName) > 0 {
		if err := delay.Sleep(s.ctx, 50*time.Millisecond); err != nil {
			t.Errorf("%d messages are left in the queue", s.stack.Queues.Waiting(local.QueueName))
			return
		}
	}
	endpoint, err := url.Parse(s.stack.RedriveURL)
	if err != nil {
		t.Fatal(err)
	}
	client := sqs.New(sqs.Options{
		BaseEndpoint: aws.String("http://" + endpoint.Host), Region: "us-east-1", HTTPClient: s.stack.Queues,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	for {
		out, err := client.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: &s.stack.RedriveURL, MaxNumberOfMessages: 10, VisibilityTimeout: 600})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return
		}
		for _, m := range out.Messages {
			var body struct{ ID string }
			if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &body); err != nil {
				t.Fatal(err)
			}
			for _, i := range s.w.sharing(body.ID) {
				s.told[i].returned = true
			}
		}
	}
}

// diedWith returns the deliveries by the stack's queue whose senders died, by their records: who
// takes a delivery over notes that it may have arrived.
func (s *soak) diedWith(t *testing.T) map[int]bool {
	t.Helper()
	died, records := map[int]bool{}, delivery.NewRedis(s.records, "", 0)
	for i := range s.fates {
		if !wayOf(i).accepted() {
			continue
		}
		rec, known, err := records.Get(context.Background(), delivery.Key{Sink: s.w.classOf(i).name, ID: s.w.id(i)})
		if err != nil {
			t.Fatalf("record of %s: %v", s.w.id(i), err)
		}
		died[i] = known && rec.Unanswered > 0 || !known && s.told[i].forgotten // of which nobody knows
	}
	if err := s.records.ScriptFlush(context.Background()).Err(); err != nil { // who asks for them next is recorded
		t.Fatal(err)
	}
	return died
}

// latest is how long after a delivery's expiry its receiver may see a request that began before:
// what an attempt has, and as much for a machine that is busy.
const latest = 2 * attemptTimeout

// holdTimes holds everything that was sent, the replays included, against what callers were told.
func (s *soak) holdTimes(r *result) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i := range s.fates {
		s.inTime(r, i)
	}
}

// inTime holds a delivery's requests against its times.
func (s *soak) inTime(r *result, i int) {
	t, c := s.told[i], s.w.classOf(i)
	missable := s.log.unguarded[i] && !wayOf(i).accepted()
	for _, at := range s.w.seen[i] {
		if over := at.Sub(t.expires); !t.expires.IsZero() && over >= 0 {
			r.late++
			r.latest = max(r.latest, over)
			if over > latest {
				r.fault("%s (%s) was sent %s after its expiry", s.w.id(i), c.name, over)
			}
		}
		// Who accepts it once more without its record tells a later time than the message has that was put before.
		if at.Before(t.notBefore) && !s.log.unguarded[i] {
			r.fault("%s (%s) was sent %s too early\n%s", s.w.id(i), c.name, t.notBefore.Sub(at), s.w.checker.History(s.w.unit(i)))
		}
		if !t.canceled.IsZero() && at.After(t.canceled) {
			if r.missed++; !missable {
				r.fault("%s (%s) was sent %s after it was told to be canceled", s.w.id(i), c.name, at.Sub(t.canceled))
			}
		}
	}
	switch arrived := len(s.w.Arrivals(i)); {
	case t.already && !t.canceled.IsZero():
		r.fault("%s (%s) was canceled and ALREADY_DELIVERED", s.w.id(i), c.name)
	case t.already && s.w.Answered(i) == 0:
		r.fault("%s (%s) is told to be ALREADY_DELIVERED, and its receiver never said so", s.w.id(i), c.name)
	case t.already:
		r.already++
	case !t.canceled.IsZero() && t.mayHaveArrived:
		r.mayHaveArrived++
	case !t.canceled.IsZero() && arrived > 0 && !missable && !t.forgotten:
		r.fault("%s (%s) was canceled without may_have_arrived, and its receiver has it", s.w.id(i), c.name)
	case s.w.terms[i].cancel > 0 && t.canceled.IsZero():
		r.fault("%s (%s): its cancellation was never decided", s.w.id(i), c.name)
	}
}
