package load

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/delay"
	"backstop/internal/locals3"
)

// Bucket is a bucket for a journal that fails now and then, until it is calm, and its faults so far.
type Bucket struct {
	*locals3.Server
	Calm              atomic.Bool
	Slow, Failed, Cut atomic.Int64

	name string
	url  string
	mu   sync.Mutex
	rand *rand.Rand
}

// Of 1,000 requests so many are slow by a second, fail, and are carried out without an answer.
const slow, failing, silent = 10, 10, 10

// NewBucket starts a bucket, until the test's end. watch is told of its changes (locals3.Server.Watch); nil: nobody is.
func NewBucket(tb testing.TB, name string, seed uint64, watch func(bucket, name string, was, now []byte)) *Bucket {
	tb.Helper()
	b := &Bucket{Server: locals3.New(name), name: name, rand: rand.New(rand.NewPCG(seed, 2))}
	b.Fault, b.Watch = b.fault, watch
	server := httptest.NewServer(b)
	tb.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// Env is what functions need to have a journal in a folder of it.
func (b *Bucket) Env(folder string) map[string]string {
	return map[string]string{
		"BACKSTOP_JOURNAL": "s3://" + b.name + "/" + folder, "AWS_ENDPOINT_URL_S3": b.url,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", // nobody looks at them
	}
}

func (b *Bucket) fault(r *http.Request) locals3.Fault {
	if b.Calm.Load() {
		return locals3.Fault{}
	}
	b.mu.Lock()
	n := b.rand.IntN(1000)
	b.mu.Unlock()
	switch {
	case n < slow:
		b.Slow.Add(1)
		_ = delay.Sleep(r.Context(), time.Second) // whoever asked may be gone; it is carried out all the same
	case n < slow+failing:
		b.Failed.Add(1)
		return locals3.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
	case n < slow+failing+silent:
		b.Cut.Add(1)
		return locals3.Fault{Cut: true}
	}
	return locals3.Fault{}
}
