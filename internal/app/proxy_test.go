package app

import (
	"net/url"
	"strings"
	"testing"
)

func TestTheProxyComesFromTheStandardVariables(t *testing.T) {
	for _, c := range []struct {
		vars []string
		url  string
		want string // "": none
	}{
		{nil, "https://hooks.example", ""},
		{[]string{"HTTPS_PROXY", "http://proxy.example:3128"}, "https://hooks.example", "http://proxy.example:3128"},
		{[]string{"https_proxy", "http://proxy.example:3128"}, "https://hooks.example", "http://proxy.example:3128"},
		{[]string{"HTTPS_PROXY", "http://a.example", "https_proxy", "http://b.example"}, "https://hooks.example", "http://a.example"},
		{[]string{"HTTPS_PROXY", "http://proxy.example:3128"}, "http://hooks.example", ""},
		{[]string{"HTTP_PROXY", "proxy.example:3128"}, "http://hooks.example", "http://proxy.example:3128"},
		{[]string{"HTTP_PROXY", "http://user:hush@proxy.example"}, "http://hooks.example", "http://user:hush@proxy.example"},
		{[]string{"HTTPS_PROXY", "socks5://proxy.example:1080"}, "https://hooks.example", "socks5://proxy.example:1080"},
		{[]string{"HTTPS_PROXY", "http://proxy.example", "NO_PROXY", "hooks.example"}, "https://hooks.example", ""},
		{[]string{"HTTPS_PROXY", "http://proxy.example", "no_proxy", ".example"}, "https://hooks.example", ""},
		{[]string{"HTTPS_PROXY", "http://proxy.example"}, "https://localhost", ""},
	} {
		e, err := ReadEnv(env(minimal(c.vars...)))
		if err != nil {
			t.Errorf("%v: %v", c.vars, err)
			continue
		}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if e.Proxy != nil {
			p, err := e.Proxy(u)
			if err != nil {
				t.Errorf("%v: %v", c.vars, err)
			} else if p != nil {
				got = p.String()
			}
		}
		if got != c.want {
			t.Errorf("%v: proxy of %s is %q, want %q", c.vars, c.url, got, c.want)
		}
	}
}

func TestABadProxyIsReportedAndNotIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "https_proxy"} {
		for _, value := range []string{"http://user:hush@pro xy", "ftp://hush.example", ":::hush", "http://:3128/hush", "http://%zz@hush"} {
			_, err := ReadEnv(env(minimal(name, value)))
			if err == nil || !strings.Contains(err.Error(), name+": not a proxy's URL") || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s=%s: got %v, want the variable named and nothing of its value", name, value, err)
			}
		}
	}
}
