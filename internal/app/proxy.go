package app

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/net/http/httpproxy"

	"backstop/internal/awsconf"
	"backstop/lib/sinks"
	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/fcm"
	httpkind "backstop/lib/sinks/http"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
)

// proxy reads the standard variables, in capitals or lower case. It returns nil when
// they name no proxy. A proxy's URL may hold a password, so no fault shows it.
func (r *envReader) proxy() func(*url.URL) (*url.URL, error) {
	c := httpproxy.Config{
		HTTPProxy:  r.proxyURL("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: r.proxyURL("HTTPS_PROXY", "https_proxy"),
		NoProxy:    r.text("NO_PROXY", r.text("no_proxy", "")),
	}
	if c.HTTPProxy == "" && c.HTTPSProxy == "" {
		return nil
	}
	return c.ProxyFunc()
}

// proxyURL checks what httpproxy would ignore: requests that were to pass a proxy must
// not silently go without it.
func (r *envReader) proxyURL(names ...string) string {
	for _, name := range names {
		v := r.text(name, "")
		if v == "" {
			continue
		}
		full := v
		if !strings.Contains(v, "://") {
			full = "http://" + v
		}
		u, err := url.Parse(full)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			r.fault(name, "not a proxy's URL; want http://host:port")
		}
		return v
	}
	return ""
}

// setUpKinds makes the sinks that post over HTTP use the proxy for their own URLs (those of
// recipients never do), and lets kind http and its presets sign with the function's own role. Without
// a proxy, the kinds stay as they registered themselves.
func setUpKinds(proxy func(*url.URL) (*url.URL, error), loadAWS func() (aws.Config, error)) {
	var ofRequest func(*http.Request) (*url.URL, error)
	if proxy != nil {
		ofRequest = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
		sinks.RegisterFactory(apns.Kind, apns.Factory(&apns.Options{Proxy: ofRequest}))
		sinks.RegisterFactory(fcm.Kind, fcm.Factory(&fcm.Options{Proxy: ofRequest}))
		sinks.RegisterFactory(slack.Kind, slack.Factory(&slack.Options{Proxy: ofRequest}))
		sinks.RegisterFactory(webhook.Kind, webhook.Factory(&webhook.Options{Proxy: ofRequest}))
	}
	httpkind.SetDefaults(&httpkind.Options{Proxy: ofRequest, Sign: awsconf.Sign(loadAWS)})
}
