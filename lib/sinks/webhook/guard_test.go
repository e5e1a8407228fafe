package webhook

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// evasions are URLs by which a caller may try to reach what it must not. Those that
// are refused by their text never get as far as a look-up.
var evasions = []struct{ name, url string }{
	{"loopback", "http://127.0.0.1/"},
	{"loopback, another address", "http://127.8.9.10:8080/"},
	{"loopback, trailing dot", "http://127.0.0.1./"},
	{"loopback as one decimal number", "http://2130706433/"},
	{"loopback as one hexadecimal number", "http://0x7f000001/"},
	{"loopback as one octal number", "http://017700000001/"},
	{"loopback with octal parts", "http://0177.0.0.1/"},
	{"loopback with hexadecimal parts", "http://0x7f.0x0.0x0.0x1/"},
	{"loopback, shortened", "http://127.1/"},
	{"loopback with leading zeros", "http://127.000.000.001/"},
	{"loopback, percent-encoded", "http://%31%32%37.0.0.1/"},
	{"loopback in circled digits", "http://①②⑦.⓪.⓪.①/"},
	{"loopback with ideographic dots", "http://127。0。0。1/"},
	{"loopback, IPv6", "http://[::1]/"},
	{"loopback, IPv6 in full", "http://[0000:0000:0000:0000:0000:0000:0000:0001]/"},
	{"loopback, IPv4-mapped", "http://[::ffff:127.0.0.1]/"},
	{"loopback, IPv4-mapped in hexadecimal", "http://[::ffff:7f00:1]/"},
	{"loopback, IPv4-compatible", "http://[::127.0.0.1]/"},
	{"loopback, IPv4-translated", "http://[::ffff:0:127.0.0.1]/"},
	{"loopback through NAT64", "http://[64:ff9b::7f00:1]/"},
	{"metadata through NAT64", "http://[64:ff9b::169.254.169.254]/"},
	{"local NAT64", "http://[64:ff9b:1::a00:1]/"},
	{"loopback through 6to4", "http://[2002:7f00:1::]/"},
	{"private through 6to4", "http://[2002:a00:1::1]/"},
	{"Teredo", "http://[2001:0:7f00:1::1]/"},
	{"localhost", "http://localhost/"},
	{"localhost in capitals", "http://LOCALHOST:8080/"},
	{"localhost, trailing dot", "http://localhost./"},
	{"below localhost", "http://a.localhost/"},
	{"a name of the local network", "http://printer.local/"},
	{"a name of the cloud", "http://metadata.google.internal/computeMetadata/v1/"},
	{"a bare name", "http://redis:8080/"},
	{"unspecified", "http://0.0.0.0/"},
	{"unspecified, shortened", "http://0/"},
	{"unspecified, IPv6", "http://[::]/"},
	{"this network", "http://0.1.2.3/"},
	{"private 10/8", "https://10.1.2.3/"},
	{"private 172.16/12", "https://172.31.255.255/"},
	{"private 192.168/16", "https://192.168.0.1/"},
	{"carrier-grade NAT", "https://100.64.0.1/"},
	{"instance metadata", "http://169.254.169.254/latest/meta-data/"},
	{"instance metadata as a number", "http://2852039166/"},
	{"task metadata", "http://169.254.170.2/v2/credentials"},
	{"instance metadata, IPv6", "http://[fd00:ec2::254]/"},
	{"instance metadata, mapped", "http://[::ffff:169.254.169.254]/"},
	{"instance metadata, mapped, in capitals", "HTTP://[::FFFF:A9FE:A9FE]/"},
	{"instance metadata, trailing dot", "http://169.254.169.254./"},
	{"instance metadata through 6to4", "http://[2002:a9fe:a9fe::]/"},
	{"instance metadata, hexadecimal in capitals", "http://0XA9FEA9FE/"},
	{"a name of the cloud in capitals, trailing dot", "http://METADATA.Google.Internal./"},
	{"Azure's platform address", "http://168.63.129.16/"},
	{"Alibaba's metadata", "http://100.100.100.200/"},
	{"Oracle's metadata", "http://192.0.0.192/"},
	{"link-local, IPv6", "http://[fe80::1]/"},
	{"link-local with a zone", "http://[fe80::1%25eth0]/"},
	{"a public address with a zone", "http://[2606:4700::1111%25eth0]/"},
	{"unique-local", "http://[fd12:3456::1]/"},
	{"site-local", "http://[fec0::1]/"},
	{"documentation, IPv4", "http://192.0.2.1/"},
	{"documentation, second net", "http://198.51.100.1/"},
	{"documentation, third net", "http://203.0.113.1/"},
	{"documentation, IPv6", "http://[2001:db8::1]/"},
	{"documentation, new IPv6", "http://[3fff::1]/"},
	{"benchmarks", "http://198.18.0.1/"},
	{"benchmarks, IPv6", "http://[2001:2::1]/"},
	{"multicast", "http://224.0.0.1/"},
	{"multicast, IPv6", "http://[ff02::1]/"},
	{"broadcast", "http://255.255.255.255/"},
	{"reserved", "http://240.0.0.1/"},
	{"6to4 relay", "http://192.88.99.1/"},
	{"discard only", "http://[100::1]/"},
	{"mail port", "https://hooks.example.com:25/"},
	{"shell port", "https://hooks.example.com:22/"},
	{"port 0", "https://hooks.example.com:0/"},
	{"port out of range", "https://hooks.example.com:65616/"},
	{"empty port", "https://hooks.example.com:/"},
	{"credentials", "https://user:password@hooks.example.com/"},
	{"another host as credentials", "https://hooks.example.com@127.0.0.1/"},
	{"a backslash before the host", `https://hooks.example.com\@127.0.0.1/`},
	{"a file", "file:///etc/passwd"},
	{"gopher", "gopher://127.0.0.1:6379/_FLUSHALL"},
	{"no scheme", "//hooks.example.com/"},
	{"a scheme alone", "https:hooks.example.com"},
	{"no host", "https:///path"},
	{"a line end", "https://hooks.example.com/\r\nX: y"},
	{"white space in the host", "https://hooks. example.com/"},
	{"empty label", "https://hooks..example.com/"},
	{"a number as the last label", "https://hooks.example.1/"},
	{"no URL", "hooks"},
}

func TestGuardRefusesEvasions(t *testing.T) {
	s, err := New("hooks", Config{URL: "https://own.example.com/"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range evasions {
		t.Run(e.name, func(t *testing.T) {
			err := s.Validate(Recipient{URL: e.url}, sinks.Message{Body: "x"})
			if got := sinks.CodeOf(err); got != sinks.CodeInvalidArgument {
				t.Fatalf("Validate(%q) = %v, want %s", e.url, err, sinks.CodeInvalidArgument)
			}
			if !strings.Contains(err.Error(), "recipient.url: ") {
				t.Errorf("the error does not name recipient.url: %v", err)
			}
			if sinks.IsTransient(err) {
				t.Errorf("the error is transient: %v", err)
			}
		})
	}
	names, urls := map[string]bool{}, map[string]bool{}
	for _, e := range evasions {
		names[e.name], urls[e.url] = true, true
	}
	if len(urls) < 40 || len(urls) != len(evasions) || len(names) != len(evasions) {
		t.Errorf("%d evasions are listed, %d of them different, want at least 40 and all", len(evasions), min(len(urls), len(names)))
	}
}

func TestGuardAllowsPublicAddresses(t *testing.T) {
	for _, raw := range []string{
		"https://hooks.example.com/in?token=x", "http://hooks.example.com", "https://hooks.example.com:8443/",
		"https://HOOKS.Example.com./", "https://xn--bcher-kva.example/", "http://8.8.8.8:8080/", "https://[2606:4700::1111]/",
		"https://[64:ff9b::808:808]/", "https://[::ffff:8.8.8.8]/", "https://a_b.example.com/",
	} {
		if _, err := (guard{}).checkURL(raw); err != nil {
			t.Errorf("checkURL(%q) = %v, want nil", raw, err)
		}
	}
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"} {
		if err := (guard{}).addresses().CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(a), 443)); err != nil {
			t.Errorf("checkAddr(%s) = %v, want nil", a, err)
		}
	}
}

func TestGuardWithPrivateRecipientsStillRefusesMetadata(t *testing.T) {
	g := guard{private: true}
	for _, raw := range []string{
		"http://127.0.0.1:8080/", "http://localhost:8080/", "http://receiver:8080/", "http://10.0.0.1/", "http://[::1]/",
		"http://[fd12::1]/", "http://[::ffff:192.168.0.1]/", "http://[64:ff9b::a00:1]/", "http://100.64.0.1/", "https://8.8.8.8/",
	} {
		if _, err := g.checkURL(raw); err != nil {
			t.Errorf("checkURL(%q) = %v, want nil", raw, err)
		}
	}
	for _, raw := range []string{
		"http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://[fe80::1]/", "http://0.0.0.0/",
		"http://[::]/", "http://224.0.0.1/", "http://127.1/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:7f00:1::]/",
	} {
		if _, err := g.checkURL(raw); err == nil {
			t.Errorf("checkURL(%q) = nil, want an error", raw)
		}
	}
}

func TestAllowedHostsNarrowRecipients(t *testing.T) {
	g := guard{hosts: []string{"hooks.example.com", "*.example.org", "8.8.8.8"}}
	for raw, want := range map[string]bool{
		"https://hooks.example.com/":      true,
		"https://Hooks.Example.com.:443/": true,
		"https://a.example.org/":          true,
		"https://a.b.example.org/":        true,
		"https://8.8.8.8/":                true,
		"https://example.org/":            false,
		"https://badexample.org/":         false,
		"https://a.hooks.example.com/":    false,
		"https://hooks.example.com.evil/": false,
		"https://1.1.1.1/":                false,
	} {
		if _, err := g.checkURL(raw); (err == nil) != want {
			t.Errorf("checkURL(%q) = %v, want allowed: %v", raw, err, want)
		}
	}
}

// nameserver answers each question for A records with the next of its sets of
// addresses, the last one from then on, and one for AAAA records with those of the same
// set.
func nameserver(t *testing.T, sets ...[]netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		next := 0
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			m.Answers = records(m.Questions[0], sets[next])
			if m.Questions[0].Type == dnsmessage.TypeA {
				next = min(next+1, len(sets)-1)
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// records are the addresses of the kind that q asks for.
func records(q dnsmessage.Question, set []netip.Addr) []dnsmessage.Resource {
	var out []dnsmessage.Resource
	for _, a := range set {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			out = append(out, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && !a.Is4():
			out = append(out, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return out
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
			resolver := nameserver(t, answers...)
			s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.addresses(), Resolver: resolver})
			if len(answers) > 1 {
				// What a guard that looks the name up for itself would see.
				got, err := resolver.LookupNetIP(t.Context(), "ip4", "hooks.example.com")
				if err != nil || len(got) != 1 || !(guard{}).allows(got[0]) {
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
	s.guarded = httpsend.NewClient(&httpsend.Options{Resolver: nameserver(t, set("127.0.0.2", "127.0.0.1")), Guard: guardFunc(func(a netip.AddrPort) error {
		if a.Addr() == outside {
			return nil
		}
		return s.guard.addresses().CheckAddr(a)
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
	s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.addresses(), Resolver: nameserver(t, set("127.0.0.1"))})
	if err := s.Send(t.Context(), Recipient{URL: "http://hooks.example.com" + port}, sinks.Message{Body: "x"}); err != nil {
		t.Errorf("Send with private addresses allowed: %v", err)
	}
}

type guardFunc func(netip.AddrPort) error

func (f guardFunc) CheckAddr(a netip.AddrPort) error { return f(a) }

func FuzzRecipientURL(f *testing.F) {
	for _, e := range evasions {
		f.Add(e.url)
	}
	f.Add("https://hooks.example.com/in")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := (guard{}).checkURL(raw)
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument {
				t.Errorf("checkURL(%q): %v, want %s", raw, err, sinks.CodeInvalidArgument)
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Hostname() == "" {
			t.Errorf("checkURL(%q) let %s through", raw, u)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && !(guard{}).allows(a) {
			t.Errorf("checkURL(%q) let the address %s through", raw, a)
		}
	})
}
