package guard

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard/guardtest"
)

func check(g Guard) func(string) error {
	return func(raw string) error {
		_, err := g.CheckURL(raw)
		return err
	}
}

func TestGuardRefusesEvasions(t *testing.T) {
	guardtest.Refuses(t, "recipient.url", check(Guard{}))
	guardtest.Refuses(t, "recipient.endpoint", check(Guard{Field: "recipient.endpoint"}))
	names, urls := map[string]bool{}, map[string]bool{}
	for _, e := range guardtest.Evasions {
		names[e.Name], urls[e.URL] = true, true
	}
	if all := len(guardtest.Evasions); len(urls) < 40 || len(urls) != all || len(names) != all {
		t.Errorf("%d evasions are listed, %d of them different, want at least 40 and all", all, min(len(urls), len(names)))
	}
}

func TestGuardAllowsPublicAddresses(t *testing.T) {
	for _, raw := range []string{
		"https://hooks.example.com/in?token=x", "http://hooks.example.com", "https://hooks.example.com:8443/",
		"https://HOOKS.Example.com./", "https://xn--bcher-kva.example/", "http://8.8.8.8:8080/", "https://[2606:4700::1111]/",
		"https://[64:ff9b::808:808]/", "https://[::ffff:8.8.8.8]/", "https://a_b.example.com/",
	} {
		if _, err := (Guard{}).CheckURL(raw); err != nil {
			t.Errorf("CheckURL(%q) = %v, want nil", raw, err)
		}
	}
	for _, a := range []string{"8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"} {
		if err := (Guard{}).Addresses().CheckAddr(netip.AddrPortFrom(netip.MustParseAddr(a), 443)); err != nil {
			t.Errorf("CheckAddr(%s) = %v, want nil", a, err)
		}
	}
}

func TestGuardWithPrivateRecipientsStillRefusesMetadata(t *testing.T) {
	g := must(New(true, nil))
	for _, raw := range []string{
		"http://127.0.0.1:8080/", "http://localhost:8080/", "http://receiver:8080/", "http://10.0.0.1/", "http://[::1]/",
		"http://[fd12::1]/", "http://[::ffff:192.168.0.1]/", "http://[64:ff9b::a00:1]/", "http://100.64.0.1/", "https://8.8.8.8/",
	} {
		if _, err := g.CheckURL(raw); err != nil {
			t.Errorf("CheckURL(%q) = %v, want nil", raw, err)
		}
	}
	for _, raw := range []string{
		"http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://[fe80::1]/", "http://0.0.0.0/",
		"http://[::]/", "http://224.0.0.1/", "http://127.1/", "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:7f00:1::]/",
	} {
		if _, err := g.CheckURL(raw); err == nil {
			t.Errorf("CheckURL(%q) = nil, want an error", raw)
		}
	}
}

func TestAllowedHostsNarrowRecipients(t *testing.T) {
	g := must(New(false, []string{"Hooks.example.com.", "*.example.org", "8.8.8.8"}))
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
		if _, err := g.CheckURL(raw); (err == nil) != want {
			t.Errorf("CheckURL(%q) = %v, want allowed: %v", raw, err, want)
		}
	}
}

func TestAllowedHostsAreHostsAlone(t *testing.T) {
	for _, h := range []string{"", "*", "*.", "https://example.org", "example.org:443", "example.org/a", "exa mple.org", "a.*.org", "[::1]"} {
		if _, err := New(false, []string{h}); err == nil {
			t.Errorf("New with the allowed host %q succeeded", h)
		}
	}
	_, err := New(false, []string{"a b", "example.org", "c:d:e"})
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the join itself
	if !ok {
		t.Fatalf("New = %v, want both faults", err)
	}
	var keys []string
	for _, e := range joined.Unwrap() {
		fault, ok := errors.AsType[*sinks.ConfigError](e)
		if !ok {
			t.Fatalf("%v is no ConfigError", e)
		}
		keys = append(keys, fault.Key)
	}
	if want := []string{"allowed_hosts[0]", "allowed_hosts[2]"}; !slices.Equal(keys, want) {
		t.Errorf("faults of %v, want %v", keys, want)
	}
}

// Sinks whose guards decide alike share their connections.
func TestAddressesOfLikeGuardsAreEqual(t *testing.T) {
	open, narrow := must(New(false, nil)), must(New(false, []string{"example.org"}))
	if open.Addresses() != narrow.Addresses() {
		t.Error("guards that differ in their hosts alone judge addresses alike, and are not equal")
	}
	if private := must(New(true, nil)); open.Addresses() == private.Addresses() {
		t.Error("a guard that allows private addresses is equal to one that does not")
	}
}

func TestAddressThatIsRefusedNamesTheField(t *testing.T) {
	for field, want := range map[string]string{"": "recipient.url: ", "recipient.endpoint": "recipient.endpoint: "} {
		err := (Guard{Field: field}).Addresses().CheckAddr(netip.MustParseAddrPort("127.0.0.1:443"))
		if err == nil || !strings.HasPrefix(err.Error(), string(sinks.CodeInvalidArgument)+": "+want) {
			t.Errorf("the guard of %q said %v, want an error of %s", field, err, want)
		}
	}
}

func must(g Guard, err error) Guard {
	if err != nil {
		panic(err)
	}
	return g
}

func FuzzRecipientURL(f *testing.F) {
	for _, e := range guardtest.Evasions {
		f.Add(e.URL)
	}
	f.Add("https://hooks.example.com/in")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := (Guard{}).CheckURL(raw)
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument {
				t.Errorf("CheckURL(%q): %v, want %s", raw, err, sinks.CodeInvalidArgument)
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Hostname() == "" {
			t.Errorf("CheckURL(%q) let %s through", raw, u)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && !(Guard{}).allows(a) {
			t.Errorf("CheckURL(%q) let the address %s through", raw, a)
		}
	})
}
