// Package guardtest is what a kind whose recipients bring URLs is tried on: ways around the
// guard, and names that lead anywhere.
package guardtest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"backstop/lib/sinks"
)

// Evasion is a URL by which a caller may try to reach what it must not.
type Evasion struct{ Name, URL string }

// Evasions are refused by a guard that allows public hosts alone, and by their text: they never
// get as far as a look-up.
var Evasions = []Evasion{
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

// Refuses tests that validate, which asks a kind about a recipient's URL, refuses every evasion
// as INVALID_ARGUMENT, terminally, by the name of the recipient's field.
func Refuses(t *testing.T, field string, validate func(url string) error) {
	t.Helper()
	for _, e := range Evasions {
		t.Run(e.Name, func(t *testing.T) {
			err := validate(e.URL)
			if got := sinks.CodeOf(err); got != sinks.CodeInvalidArgument {
				t.Fatalf("Validate(%q) = %v, want %s", e.URL, err, sinks.CodeInvalidArgument)
			}
			if !strings.Contains(err.Error(), field+": ") {
				t.Errorf("the error does not name %s: %v", field, err)
			}
			if sinks.IsTransient(err) {
				t.Errorf("the error is transient: %v", err)
			}
		})
	}
}

// Nameserver returns a resolver whose server answers each question for A records with the next of its sets of
// addresses, the last one from then on, and one for AAAA records with those of the same
// set. It ends with tb.
func Nameserver(tb testing.TB, sets ...[]netip.Addr) *net.Resolver {
	tb.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
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
