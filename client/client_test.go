package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/client"
	"backstop/lib/fault"
)

// answering returns a client whose requests get one answer, and the last request's URL.
func answering(t *testing.T, base string, status int, contentType, body string) (*client.Client, *string) {
	t.Helper()
	asked := new(string)
	c, err := client.New(base, &client.Options{Tries: 1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		*asked = r.Method + " " + r.URL.String()
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return w.Result(), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return c, asked
}

func TestTheURLMayHaveAStageAndASlash(t *testing.T) {
	for base, want := range map[string]string{
		"http://h":              "http://h/v1/sinks",
		"http://h/":             "http://h/v1/sinks",
		"http://h/v1":           "http://h/v1/sinks",
		"http://h/v1/":          "http://h/v1/sinks",
		"https://h:8443/stage":  "https://h:8443/stage/v1/sinks",
		"https://h/stage/":      "https://h/stage/v1/sinks",
		"http://[::1]:3000/a/b": "http://[::1]:3000/a/b/v1/sinks",
	} {
		c, asked := answering(t, base, 200, "application/json", "{}")
		if _, err := c.Sinks(t.Context()); err != nil || *asked != "GET "+want {
			t.Errorf("%s: asked %s (%v), want %s", base, *asked, err, want)
		}
	}
	for _, base := range []string{"", "localhost:3000", "//h", "ftp://h", "http://", "http://u:p4ss@h", "http://h?x=1", "http://h#x", "http://h/%zz-p4ss"} {
		if _, err := client.New(base, nil); err == nil || strings.Contains(err.Error(), "p4ss") {
			t.Errorf("%q: %v, want an error that does not repeat it", base, err)
		}
	}
}

func TestRefusalsAreProblems(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		want                    client.ProblemError
		text                    string
	}{
		{
			"a problem", "application/problem+json", `{"type":"urn:x","title":"T","status":409,"detail":"d","code":"ITEM_LEASED","delivery_id":"i","new":1}`, 409,
			client.ProblemError{Type: "urn:x", Title: "T", Status: 409, Detail: "d", Code: "ITEM_LEASED", DeliveryID: "i"},
			"T: d (ITEM_LEASED)",
		},
		{"a problem of another status", "application/problem+json; charset=utf-8", `{"title":"T","status":200,"code":"X"}`, 503, client.ProblemError{Title: "T", Status: 503, Code: "X"}, "T (X)"},
		{"the gateway's", "application/json", `{"message":"Forbidden"}`, 403, client.ProblemError{Title: "Forbidden", Status: 403, Detail: "Forbidden"}, "Forbidden: Forbidden (HTTP 403)"},
		{"another's", "text/html", `<h1>Bad</h1>`, 502, client.ProblemError{Title: "Bad Gateway", Status: 502}, "Bad Gateway (HTTP 502)"},
		{"a broken one", "application/problem+json", `{"title":`, 500, client.ProblemError{Title: "Internal Server Error", Status: 500}, "Internal Server Error (HTTP 500)"},
	} {
		api, _ := answering(t, "http://h", c.status, c.contentType, c.body)
		_, err := api.Sinks(t.Context())
		p, ok := errors.AsType[*client.ProblemError](err)
		c.want.RetryAfter = 7 * time.Second
		if !ok || *p != c.want || p.Error() != c.text {
			t.Errorf("%s: got %#v %q, want %#v %q", c.name, err, err, c.want, c.text)
		}
		if got := fault.CodeOf(fmt.Errorf("list: %w", err)); got != c.want.Code {
			t.Errorf("%s: code %q, want %q", c.name, got, c.want.Code)
		}
	}
}

func TestAnswersKeepTheirJSON(t *testing.T) {
	const body = "{\"items\": [{\"id\":\"a~1-0\",\"unknown\":1}],\n\"next_cursor\":null}\n"
	c, _ := answering(t, "http://h", 200, "application/json; charset=utf-8", body)
	p, err := c.ItemsPage(t.Context(), client.Filter{}, 0, "")
	if err != nil || string(p.JSON) != body || len(p.Items) != 1 || p.Items[0].ID != "a~1-0" || p.NextCursor != "" {
		t.Errorf("got %+v, %v", p, err)
	}
	b, err := json.Marshal(p.Items[0])
	if err != nil || strings.Contains(string(b), "JSON") {
		t.Errorf("%s, %v", b, err)
	}
}

func TestNoAnswerIsUnreachableWithoutTheQuery(t *testing.T) {
	c, err := client.New("http://h", &client.Options{Tries: 1, Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ItemsPage(t.Context(), client.Filter{Q: "ann@example.com"}, 0, "")
	if e, ok := errors.AsType[*client.UnreachableError](err); !ok || e.URL != "http://h" || !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "ann") {
		t.Errorf("got %v", err)
	}
}

func TestACallEnds(t *testing.T) {
	hang := roundTripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New("http://h", &client.Options{Transport: hang, Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = c.Sinks(t.Context())
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || time.Since(start) != 40*time.Second {
			t.Errorf("%v after %s, want unreachable after 40 s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Sinks(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the caller's own end", err)
		}
	})
}

// What a request says about its time, its order and its answer goes out as the API reads it; what
// it does not say is not sent.
func TestTheTermsOfASendGoOut(t *testing.T) {
	t.Parallel()
	var body, prefer string
	c, err := client.New("http://h", &client.Options{Tries: 1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body, prefer = string(b), strings.Join(r.Header.Values("Prefer"), "|")
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, err = io.WriteString(w, `{"status":"accepted","delivery_id":"d","attempts":0,"not_before":"2030-01-31T18:00:30Z"}`)
		return w.Result(), err
	})})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		r            client.SendRequest
		body, prefer string
	}{
		{client.SendRequest{}, "", ""},
		{client.SendRequest{Async: true}, "", "respond-async"},
		{client.SendRequest{ExpiresAt: at.Add(5 * time.Minute), SendAfter: "30s", Group: "g"}, `,"expires_at":"2030-01-31T18:05:00Z","send_after":"30s","group":"g"`, ""},
	} {
		x.r.ID, x.r.Sink, x.r.Message.Body = "d", "s", "b"
		a, err := c.Send(t.Context(), x.r)
		if err != nil || a.Status != client.DeliveryAccepted || !a.NotBefore.Equal(at.Add(30*time.Second)) {
			t.Errorf("%+v: got %+v, %v; want it accepted for 18:00:30", x.r, a, err)
		}
		if want := `{"id":"d","sink":"s","message":{"body":"b"}` + x.body + "}"; strings.TrimSpace(body) != want || prefer != x.prefer {
			t.Errorf("sent %s with Prefer %q, want %s with %q", body, prefer, want, x.prefer)
		}
	}
}
