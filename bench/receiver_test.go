package bench

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is an HTTP server that takes its time and says yes.
type receiver struct {
	*httptest.Server
	requests atomic.Int64
	last     atomic.Pointer[http.Request] // without its body
	body     atomic.Pointer[[]byte]       // of last
}

func newReceiver(b *testing.B, takes time.Duration) *receiver {
	b.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		time.Sleep(takes)
		r.requests.Add(1)
		r.last.Store(req)
		r.body.Store(&body)
		_, _ = io.WriteString(w, "ok")
	}))
	b.Cleanup(r.Close)
	return r
}
