package webpush

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard/guardtest"
)

// resolve lets every name lead to address until t ends. No test beside t looks a name up.
func resolve(t *testing.T, address string) {
	t.Helper()
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = guardtest.Nameserver(t, []netip.Addr{netip.MustParseAddr(address)})
}

// A push service's name may lead anywhere: the address counts that is dialled.
func TestAnEndpointsNameLeadsToNoAddressInside(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	s, err := New("browsers", Config{VAPIDPublicKey: testPublic, VAPIDPrivateKey: sinks.Secret(testPrivate), Subscriber: "mailto:ops@example.org"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resolve(t, "127.0.0.1")
	to := Recipient{
		Endpoint: "https://push.example.org" + server.URL[strings.LastIndexByte(server.URL, ':'):] + "/x",
		Keys:     Keys{P256DH: testPublic, Auth: "BTBZMqHH6r4Tts7J_aSIgg"},
	}
	err = s.Send(t.Context(), to, sinks.Message{ID: "d", Body: "x"})
	if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), "recipient.endpoint: the host leads to an address that is not public") {
		t.Errorf("Send = %v, want %s", err, sinks.CodeInvalidArgument)
	}
	if got := requests.Load(); got != 0 {
		t.Errorf("%d requests arrived inside", got)
	}
}

// Windows finds fault with a TTL of 0 that goes without its own word for it. No other push service
// is told, nor is Windows where it may keep the message.
func TestWindowsIsToldThatNothingIsKept(t *testing.T) {
	var headers []http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers = append(headers, r.Header)
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	s, err := New("browsers", Config{VAPIDPublicKey: testPublic, VAPIDPrivateKey: sinks.Secret(testPrivate), Subscriber: "mailto:ops@example.org", AllowPrivateRecipients: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resolve(t, "127.0.0.1")
	for _, c := range []struct {
		host, ttl, policy string
		left              time.Duration
	}{
		{"wns2-par02p.notify.windows.com", "0", "no-cache", 0},
		{"WNS2-par02p.Notify.Windows.com", "0", "no-cache", 0},
		{"wns2-par02p.notify.windows.com", "2419200", "", 24 * 365 * time.Hour},
		{"notify.windows.com.example.org", "0", "", 0},
		{"xnotify.windows.com", "0", "", 0},
	} {
		headers = nil
		ctx := sinks.WithDelivery(t.Context(), sinks.Delivery{ExpiresAt: time.Now().Add(c.left)})
		to := Recipient{Endpoint: "http://" + c.host + port + "/w/?token=x", Keys: Keys{P256DH: testPublic, Auth: "BTBZMqHH6r4Tts7J_aSIgg"}}
		if err := s.Send(ctx, to, sinks.Message{ID: "d", Body: "x"}); err != nil {
			t.Fatalf("%s: %v", c.host, err)
		}
		if got := headers[0]; got.Get("TTL") != c.ttl || got.Get("X-WNS-Cache-Policy") != c.policy {
			t.Errorf("%s: TTL %s, X-WNS-Cache-Policy %q, want %s and %q", c.host, got.Get("TTL"), got.Get("X-WNS-Cache-Policy"), c.ttl, c.policy)
		}
	}
}
