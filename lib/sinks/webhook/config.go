package webhook

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard"
)

// The formats of a request's body.
const (
	// FormatEnvelope posts {"subject","body","metadata"}, the body as a string.
	FormatEnvelope = "envelope"
	// FormatRaw posts the message's body itself, byte for byte; it must be JSON.
	FormatRaw = "raw"
)

// Config is the configuration of a webhook sink.
type Config struct {
	// URL receives the messages that bring no URL of their own. Required; http or
	// https. It is the operator's: neither the address guard nor AllowedHosts apply,
	// and it may hold credentials or a token.
	URL sinks.Secret `json:"url"`
	// Headers are added to every request that goes to the scheme, host and port of
	// URL. Recipients' URLs elsewhere never get them: they may be credentials.
	Headers map[string]sinks.Secret `json:"headers,omitempty"`
	// SigningSecrets sign every request by Standard Webhooks: base64, usually with the
	// prefix "whsec_". Several sign side by side while one replaces the other. Empty:
	// requests are not signed.
	SigningSecrets []sinks.Secret `json:"signing_secrets,omitempty"`
	// Format is FormatEnvelope (default) or FormatRaw.
	Format string `json:"format,omitempty"`
	// AllowPrivateRecipients lets recipients' URLs lead to loopback and private
	// addresses. Link-local and metadata addresses are refused in any case.
	AllowPrivateRecipients bool `json:"allow_private_recipients,omitempty"`
	// AllowedHosts narrows the hosts of recipients' URLs: names and addresses, or
	// "*.example.org" for every name below example.org. Empty: any public host.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`
}

// parse checks c and fills s. It reports all faults together.
func (c Config) parse(s *Sink) error {
	var f faults
	s.url = c.target(&f)
	s.headers = c.ownHeaders(&f)
	for i, secret := range c.SigningSecrets {
		key, err := signingKey(secret)
		if err != nil {
			f.own(fmt.Sprintf("signing_secrets[%d]", i), err.Error())
		}
		s.keys = append(s.keys, key)
	}
	switch c.Format {
	case "", FormatEnvelope:
	case FormatRaw:
		s.raw = true
	default:
		f.own("format", "want "+FormatEnvelope+" or "+FormatRaw)
	}
	var err error
	if s.guard, err = guard.New(c.AllowPrivateRecipients, c.AllowedHosts); err != nil {
		f = append(f, err)
	}
	return errors.Join(f...)
}

// faults are the keys that are wrong.
type faults []error

// own records a fault, in the words of the code alone.
func (f *faults) own(key, why string) { *f = append(*f, &sinks.ConfigError{Key: key, Hint: why}) }

func (c Config) target(f *faults) *url.URL {
	u, err := url.Parse(c.URL.Reveal())
	switch {
	case c.URL == "":
		f.own("url", "required")
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		f.own("url", "not an http or https URL") // nothing of it: it is secret
	default:
		u.Fragment, u.RawFragment = "", ""
		return u
	}
	return nil
}

func (c Config) ownHeaders(f *faults) http.Header {
	headers := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		key, value := "headers."+name, c.Headers[name].Reveal()
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !validName(name):
			f.own(key, "not a header name")
		case ownHeader(canonical):
			f.own(key, "this header is set by the sink or by HTTP itself")
		case headers[canonical] != nil:
			f.own(key, "given twice in different capitalization")
		case !validValue(value):
			f.own(key, "the value holds a control character")
		default:
			headers[canonical] = []string{value}
		}
	}
	return headers
}
