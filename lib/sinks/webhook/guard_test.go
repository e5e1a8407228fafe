package webhook

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard"
	"backstop/lib/sinks/internal/guard/guardtest"
	"backstop/lib/sinks/internal/httpsend"
)

func TestGuardRefusesEvasions(t *testing.T) {
	s, err := New("hooks", Config{URL: "https://own.example.com/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	guardtest.Refuses(t, "recipient.url", func(url string) error {
		return s.Validate(Recipient{URL: url}, sinks.Message{Body: "x"})
	})
}

func TestGuardJudgesTheAddressThatIsDialled(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	set := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}

	for name, answers := range map[string][][]netip.Addr{
		"a name that leads to loopback":               {set("127.0.0.1")},
		"a name that changes its answer when dialled": {set("8.8.8.8"), set("127.0.0.1")},
		"a name that leads to a mapped address":       {set("::ffff:127.0.0.1")},
		"a name with two addresses inside":            {set("127.0.0.1", "10.0.0.1")},
		"a name with addresses of both kinds":         {set("::1", "127.0.0.1", "169.254.169.254")},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New("hooks", Config{URL: "https://own.example.com/"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			resolver := guardtest.Nameserver(t, answers...)
			s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.Addresses(), Resolver: resolver})
			if len(answers) > 1 {
				// What a guard that looks the name up for itself would see.
				got, err := resolver.LookupNetIP(t.Context(), "ip4", "hooks.example.com")
				if err != nil || len(got) != 1 || (guard.Guard{}).Addresses().CheckAddr(netip.AddrPortFrom(got[0], 80)) != nil {
					t.Fatalf("the first look-up: %v, %v, want a public address", got, err)
				}
			}
			err = s.Send(t.Context(), Recipient{URL: "http://hooks.example.com" + port}, sinks.Message{Body: "x"})
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument || sinks.IsTransient(err) {
				t.Errorf("Send = %v, want a terminal %s", err, sinks.CodeInvalidArgument)
			}
		})
	}

	// A name with one address that is allowed and one that is not: when the first cannot
	// be reached, the second is not tried in its place. 127.0.0.2, where nobody listens,
	// stands for an address outside.
	s, err := New("hooks", Config{URL: "https://own.example.com/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	outside := netip.MustParseAddr("127.0.0.2")
	s.guarded = httpsend.NewClient(&httpsend.Options{Resolver: guardtest.Nameserver(t, set("127.0.0.2", "127.0.0.1")), Guard: guardFunc(func(a netip.AddrPort) error {
		if a.Addr() == outside {
			return nil
		}
		return s.guard.Addresses().CheckAddr(a)
	})})
	if err := s.Send(t.Context(), Recipient{URL: "http://hooks.example.com" + port}, sinks.Message{Body: "x"}); err == nil {
		t.Error("Send to a name with an address inside succeeded")
	}
	if got := requests.Load(); got != 0 {
		t.Errorf("the receiver saw %d requests, want none", got)
	}

	// The same name and receiver, with private addresses allowed: the guard was what
	// stood between.
	s, err = New("hooks", Config{URL: "https://own.example.com/", AllowPrivateRecipients: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.Addresses(), Resolver: guardtest.Nameserver(t, set("127.0.0.1"))})
	if err := s.Send(t.Context(), Recipient{URL: "http://hooks.example.com" + port}, sinks.Message{Body: "x"}); err != nil {
		t.Errorf("Send with private addresses allowed: %v", err)
	}
}

type guardFunc func(netip.AddrPort) error

func (f guardFunc) CheckAddr(a netip.AddrPort) error { return f(a) }
