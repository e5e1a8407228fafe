package email

import (
	"errors"
	"net/textproto"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/net/idna"
)

// named are the headers that mail systems read under these names only. Metadata of the
// same name becomes the header itself, once it is checked.
var named = map[string]func(value string) (string, error){
	"Reply-To":      replyTo,
	listUnsubscribe: unsubscribe,
	unsubscribePost: oneClick,
}

const (
	listUnsubscribe = "List-Unsubscribe"
	unsubscribePost = "List-Unsubscribe-Post"
)

func replyTo(value string) (string, error) {
	a, err := parseAddress(value)
	if err != nil {
		return "", err
	}
	if !ascii(a.Address) {
		return "", errors.New("what stands before the @ must be ASCII")
	}
	return a.String(), nil
}

// maxURI keeps a header within a line of 998 bytes, which only spaces may break.
const maxURI = 900

var uriList = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^<[!-;=?-~]+>( *, *<[!-;=?-~]+>)*$`) })

// unsubscribe checks a list of URIs (RFC 2369).
func unsubscribe(value string) (string, error) {
	if !uriList().MatchString(value) {
		return "", errors.New("want <https://...> or <mailto:...>, several separated by commas")
	}
	uris := strings.Split(strings.Trim(value, "<>"), ">")
	for i, u := range uris {
		u = strings.TrimLeft(u, " ,<")
		parsed, err := url.Parse(u)
		switch {
		case len(u) > maxURI:
			return "", errors.New("a URI is too long")
		case err == nil && (parsed.Scheme == "https" || parsed.Scheme == "http") && parsed.Hostname() != "":
		case err == nil && parsed.Scheme == "mailto" && strings.Contains(parsed.Opaque, "@"):
		default:
			return "", errors.New("want <https://...> or <mailto:...>")
		}
		uris[i] = "<" + u + ">"
	}
	return strings.Join(uris, ", "), nil
}

// oneClick checks the only value that RFC 8058 knows.
func oneClick(value string) (string, error) {
	const want = "List-Unsubscribe=One-Click"
	if !strings.EqualFold(strings.TrimSpace(value), want) {
		return "", errors.New("want " + want)
	}
	return want, nil
}

// offersOneClick reports whether there is a URI to post to.
func offersOneClick(metadata map[string]string) bool {
	for key, value := range metadata {
		if textproto.CanonicalMIMEHeaderKey(key) == listUnsubscribe {
			return strings.Contains(value, "<https://")
		}
	}
	return false
}

// asciiDomain returns the ASCII form of a domain, which every server takes.
func asciiDomain(domain string) (string, error) {
	if ascii(domain) {
		return domain, nil
	}
	d, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", errors.New("the domain has no ASCII form: it is no domain name")
	}
	return d, nil
}
