package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// maxLife is the longest life of a token that is believed.
const maxLife = 24 * time.Hour

// endpoint is where tokens come from (RFC 6749, section 3.2).
type endpoint struct {
	client *httpsend.Client
	url    *url.URL
}

func (e endpoint) label() string { return "token endpoint " + sinks.SafeURL(e.url.String()) }

// words are the errors of RFC 6749, sections 5.2 and 4.1.2.1. True: they pass with time. Nothing
// else of an answer is shown: it may hold what was sent.
var words = map[string]bool{
	"invalid_request": false, "invalid_client": false, "invalid_grant": false, "unauthorized_client": false,
	"unsupported_grant_type": false, "invalid_scope": false, "access_denied": false, "unsupported_response_type": false,
	"server_error": true, "temporarily_unavailable": true,
}

// answer is what a token endpoint says.
type answer struct {
	*httpsend.Response
	token Token
	word  string // the error, when it is one of words
}

// ask posts form once. The error is Post's; an answer may be of any kind.
func (e endpoint) ask(ctx context.Context, header http.Header, form url.Values) (*answer, error) {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	header.Set("Accept", "application/json")
	header.Set("User-Agent", "backstop")
	asked := time.Now() // the token's life began after that
	resp, err := e.client.Post(ctx, httpsend.Request{URL: e.url, Label: e.label(), Header: header, Body: []byte(form.Encode())})
	if err != nil {
		return nil, err
	}
	a := &answer{Response: resp}
	var said struct {
		AccessToken any `json:"access_token"`
		ExpiresIn   any `json:"expires_in"`
		Error       any `json:"error"`
	}
	if d := json.NewDecoder(bytes.NewReader(resp.Body)); resp.Whole {
		d.UseNumber()
		_ = d.Decode(&said) // what is no JSON holds no token
	}
	word, _ := said.Error.(string)
	if _, known := words[word]; known {
		a.word = word
	}
	if value, _ := said.AccessToken.(string); printable(value) && resp.Status >= 200 && resp.Status <= 299 {
		a.token = Token{Value: value}
		if life := lifetime(said.ExpiresIn); life > 0 {
			a.token.Expires = asked.Add(life)
		}
	}
	return a, nil
}

// result returns the token of an answer, or its error.
func (e endpoint) result(a *answer) (Token, error) {
	refused := a.Status >= 400 && a.Status <= 499 && !a.Passing() && !words[a.word]
	switch {
	case a.token.Value != "":
		return a.token, nil
	case refused:
		// The receiver of the message has said nothing.
		return Token{}, sinks.Unreached(a.Error(e.label(), a.word, false))
	case a.word == "" && a.Status >= 200 && a.Status <= 299:
		return Token{}, a.Error(e.label(), "the answer holds no access token", true)
	}
	return Token{}, a.Error(e.label(), a.word, true)
}

// lifetime reads expires_in: seconds, which some write as text. 0: not known.
func lifetime(v any) time.Duration {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second))
}

// printable reports whether a header can carry s: not empty, and visible ASCII.
func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
