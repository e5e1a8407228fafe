// Package guard decides where a URL that a recipient brings may lead: what the sinks share
// whose recipients name a host.
package guard

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// Guard decides where a URL that was given by a recipient may lead. It judges the
// URL's text when the message comes in (CheckURL), and the address itself when it is
// dialled (Addresses): only the latter sees what a name resolved to, and no later
// look-up can change it. Recipient URLs bypass every proxy for the same reason.
//
// The zero value allows every public host. A Guard is safe for concurrent use.
type Guard struct {
	// Field names the URL in errors. Empty: recipient.url.
	Field string

	// private allows loopback, private, unique-local and carrier-grade addresses.
	private bool
	// hosts narrows the hosts, when it is not empty: a name, or "*." and a name for
	// every name below it; all in lower case.
	hosts []string
}

// New returns a guard: private is a sink's allow_private_recipients, and hosts its allowed_hosts.
// Link-local and metadata addresses are refused in any case. All faults of hosts are reported
// together, as *sinks.ConfigError values.
func New(private bool, hosts []string) (Guard, error) {
	g := Guard{private: private}
	var faults []error
	for i, h := range hosts {
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if _, err := netip.ParseAddr(h); err != nil && !plainName(strings.TrimPrefix(h, "*.")) {
			faults = append(faults, &sinks.ConfigError{
				Key:  fmt.Sprintf("allowed_hosts[%d]", i),
				Hint: `want a host name, an address or "*.example.org", without scheme, port and path`,
			})
		}
		g.hosts = append(g.hosts, h)
	}
	return g, errors.Join(faults...)
}

// neverIPv4 and neverIPv6 are refused even where private addresses are allowed: no
// webhook lives there, but clouds answer with credentials on some of them.
var (
	neverIPv4 = prefixes(
		"0.0.0.0/8",          // this network; 0.0.0.0 reaches the local host
		"168.63.129.16/32",   // Azure's platform address
		"169.254.0.0/16",     // link-local: instance, task and pod metadata
		"192.0.0.0/24",       // IETF protocol assignments; Oracle's metadata
		"192.0.2.0/24",       // documentation
		"192.88.99.0/24",     // 6to4 relays
		"198.18.0.0/15",      // benchmarks
		"198.51.100.0/24",    // documentation
		"203.0.113.0/24",     // documentation
		"224.0.0.0/4",        // multicast
		"240.0.0.0/4",        // reserved, broadcast
		"100.100.100.200/32", // Alibaba's metadata, within carrier-grade NAT
	)
	neverIPv6 = prefixes(
		"fd00:ec2::/32", // Amazon's metadata, within unique-local
		"fd20:ce::/32",  // Google's metadata, within unique-local
		"2001::/23",     // IETF protocol assignments: Teredo, ORCHID, benchmarks
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: an IPv4 address in disguise
		"3fff::/20",     // documentation
	)
	privateIPv4 = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
	privateIPv6 = prefixes("::1/128", "fc00::/7")
	publicIPv6  = prefixes("2000::/3")
	nat64       = prefixes("64:ff9b::/96")[0]
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allows reports whether a may be connected to. An address that stands for an IPv4
// address (mapped, or translated by NAT64, which a network without IPv4 uses for
// public hosts) is judged as that; other translations are refused.
func (g Guard) allows(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case within(a, neverIPv4), within(a, neverIPv6):
		return false
	case within(a, privateIPv4), within(a, privateIPv6):
		return g.private
	default:
		return a.Is4() || within(a, publicIPv6)
	}
}

// addresses is the part of a guard that is asked about each address just before it is
// dialled. Sinks with equal ones share their connections.
type addresses struct {
	private bool
	field   string
}

// Addresses returns what an httpsend.Client asks about every address that it dials. Its errors
// are CheckURL's.
func (g Guard) Addresses() httpsend.Guard { return addresses{g.private, g.Field} }

// CheckAddr implements httpsend.Guard.
func (a addresses) CheckAddr(ap netip.AddrPort) error {
	g := Guard{private: a.private, Field: a.field}
	if !g.allows(ap.Addr()) {
		return g.refuse("the host leads to an address that is not public")
	}
	return nil
}

// CheckURL judges a URL without looking anything up. Errors are INVALID_ARGUMENT, terminal, name
// the field and show nothing of the URL.
func (g Guard) CheckURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Opaque != "":
		return nil, g.refuse("not a URL") // the parser's error quotes the URL
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, g.refuse("the scheme must be https or http")
	case u.User != nil:
		return nil, g.refuse("credentials are not allowed in it")
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	switch {
	case host == "":
		return nil, g.refuse("it has no host")
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }):
		return nil, g.refuse("write international host names in punycode")
	}
	if err := g.checkPort(u.Port(), strings.HasSuffix(u.Host, ":")); err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && !g.allows(addr):
		return nil, g.refuse("the address is not public")
	case err == nil:
	case strings.Contains(host, ":"), !plainName(host):
		return nil, g.refuse("the host is neither a plain name nor an address")
	case numeric(host):
		return nil, g.refuse("the host is a number; write an IPv4 address as four decimal numbers")
	case local(host) && !g.private:
		return nil, g.refuse("the host is a local name")
	}
	if len(g.hosts) > 0 && !g.listed(host) {
		return nil, g.refuse("the host is not among the sink's allowed_hosts")
	}
	return u, nil
}

// checkPort allows the web's ports and those that any user can open. The others
// belong to services (mail, shells, name servers) that must not be talked to in a
// roundabout way, wherever they are.
func (g Guard) checkPort(port string, empty bool) error {
	if port == "" && !empty {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n != 80 && n != 443 && n < 1024 {
		return g.refuse("the port must be 80, 443 or at least 1024")
	}
	return nil
}

func (g Guard) listed(host string) bool {
	for _, h := range g.hosts {
		if below, ok := strings.CutPrefix(h, "*"); h == host || ok && strings.HasSuffix(host, below) {
			return true
		}
	}
	return false
}

// plainName reports whether host has only the characters of a DNS name.
func plainName(host string) bool {
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(host) <= 253
}

// numeric reports whether a system resolver may read host as an IPv4 address in one
// of its historical forms: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// local reports whether host is a name that only the local network or cloud answers.
func local(host string) bool {
	for _, suffix := range []string{"localhost", "localdomain", "local", "internal", "home.arpa", "intranet", "lan"} {
		if host == suffix || strings.HasSuffix(host, "."+suffix) {
			return true
		}
	}
	return !strings.Contains(host, ".")
}

func (g Guard) refuse(why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: cmp.Or(g.Field, "recipient.url") + ": " + why})
}
