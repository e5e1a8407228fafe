package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/locals3"
	"backstop/lib/journal"
)

// answer is a fixed one.
type answer struct {
	status int
	code   string
	header map[string]string
	cut    bool // the connection ends without one
}

func (a answer) write(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.cut {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.status)
	_, _ = fmt.Fprintf(w, `<Error><Code>%s</Code><Message>a message with TOKENHUSH SECRETHUSH</Message><RequestId>r</RequestId></Error>`, a.code)
}

// faulty gives these answers first, and then those of next; it counts requests.
func faulty(t *testing.T, next http.Handler, first ...answer) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	return served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := int(requests.Add(1)); n <= len(first) {
			_, _ = io.Copy(io.Discard, r.Body)
			first[n-1].write(t, w)
			return
		}
		next.ServeHTTP(w, r)
	})), requests
}

// always gives one answer.
func always(t *testing.T, a answer) (http.Handler, *atomic.Int64) {
	t.Helper()
	requests := new(atomic.Int64)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		a.write(t, w)
	}), requests
}

// What another try cannot change is told at once, with what to do, and without what is secret.
func TestRefusalsSayWhatToDo(t *testing.T) {
	other := map[string]string{"X-Amz-Bucket-Region": "us-west-2", "X-Amz-Request-Id": "REQ1"}
	for _, c := range []struct {
		a    answer
		want string
	}{
		{answer{status: 404, code: "NoSuchBucket"}, "NoSuchBucket (HTTP 404): there is no such bucket: make it, or correct its name"},
		{answer{status: 301, code: "PermanentRedirect", header: other}, "request REQ1: the bucket is in region us-west-2, and this client asks in eu-west-1"},
		{answer{status: 400, code: "AuthorizationHeaderMalformed"}, "the bucket is in another region, and this client asks in eu-west-1"},
		{answer{status: 405, code: "MethodNotAllowed"}, "may be read-only"},
		{answer{status: 403, code: "InvalidAccessKeyId"}, "S3 does not take these credentials"},
		{answer{status: 403, code: "SignatureDoesNotMatch"}, "S3 does not take these credentials"},
		{answer{status: 400, code: "ExpiredToken"}, "S3 does not take these credentials"},
		{answer{status: 400, code: "KMS.DisabledException"}, "the bucket's key does not serve"},
		{answer{status: 501, code: "NotImplemented"}, "a journal needs conditional writes"},
		{answer{status: 400, code: "InvalidArgument"}, "InvalidArgument (HTTP 400)"},
	} {
		h, requests := always(t, c.a)
		b := journal.NewS3("letters", "p/", at(served(t, h)))
		errs := everyCall(t.Context(), b)
		for call, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "journal s3://letters/p: "+call+": ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %d %s: %v, want %q", call, c.a.status, c.a.code, err, c.want)
			}
			for _, own := range []error{journal.ErrExists, journal.ErrNotFound, journal.ErrChanged} {
				if errors.Is(err, own) {
					t.Errorf("%s, %s: %v is taken for: %v", call, c.a.code, err, own)
				}
			}
			if err != nil && strings.Contains(err.Error(), "HUSH") && !strings.HasPrefix(c.a.code, "KMS.") {
				t.Errorf("%s, %s shows a secret: %v", call, c.a.code, err)
			}
		}
		if got, want := requests.Load(), int64(len(errs)); got != want {
			t.Errorf("%s: %d requests, want %d: one for each call", c.a.code, got, want)
		}
	}
}

func TestADenialNamesWhatTheRoleNeeds(t *testing.T) {
	h, _ := always(t, answer{status: 403, code: "AccessDenied"})
	errs := everyCall(t.Context(), journal.NewS3("letters", "", at(served(t, h))))
	for call, want := range map[string]string{
		"put a": "s3:PutObject;", "get a": "s3:GetObject", "replace a": "s3:PutObject and s3:GetObject", "delete a": "s3:DeleteObject",
		"list all": "s3:ListBucket", "list a/": "s3:ListBucket", "purge all": "s3:ListBucketVersions, s3:GetObjectVersion and s3:DeleteObjectVersion",
	} {
		if err := errs[call]; err == nil || !strings.Contains(err.Error(), "journal s3://letters: "+call+": AccessDenied (HTTP 403): denied: it needs "+want) {
			t.Errorf("%s: %v, want %q", call, err, want)
		}
	}
}

func TestWhatPassesIsTriedAgain(t *testing.T) {
	slow := answer{status: 503, code: "SlowDown"}
	for what, first := range map[string][]answer{
		"asked too often":      {slow, slow, slow},
		"an internal error":    {{status: 500, code: "InternalError"}},
		"a gateway's error":    {{status: 502}},
		"too many requests":    {{status: 429}},
		"a conflict":           {{status: 409, code: "ConditionalRequestConflict"}, {status: 409, code: "OperationAborted"}},
		"a time-out":           {{status: 400, code: "RequestTimeout"}},
		"a lost connection":    {{cut: true}, {cut: true}},
		"an unreadable answer": {{status: 500, code: "<"}},
		"a clock put right":    {{status: 403, code: "RequestTimeTooSkewed"}},
	} {
		small := locals3.New("letters")
		url := served(t, small)
		plain := journal.NewS3("letters", "p/", at(url))
		put(t, plain, "b", "c")
		tag, err := plain.Get(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		for call, do := range map[string]func(b journal.Bucket) error{
			"put":     func(b journal.Bucket) error { return b.Put(t.Context(), "a", []byte("x")) },
			"get":     func(b journal.Bucket) error { _, err := b.Get(t.Context(), "b"); return err },
			"replace": func(b journal.Bucket) error { return b.Replace(t.Context(), "b", tag.Tag, []byte("y")) },
			"list":    func(b journal.Bucket) error { _, _, err := b.List(t.Context(), "", "", 0); return err },
			"folders": func(b journal.Bucket) error { _, err := b.Folders(t.Context(), ""); return err },
			"delete":  func(b journal.Bucket) error { return b.Delete(t.Context(), "c") },
		} {
			url, requests := faulty(t, small, first...)
			if err := do(journal.NewS3("letters", "p/", at(url))); err != nil {
				t.Errorf("%s, %s: %v", call, what, err)
			}
			if got := int(requests.Load()); got != len(first)+1 {
				t.Errorf("%s, %s: %d requests, want %d", call, what, got, len(first)+1)
			}
		}
	}
}

// Only the time that is left bounds the tries, and what was answered is told.
func TestTriesEndWithTheTime(t *testing.T) {
	h, requests := always(t, answer{status: 503, code: "SlowDown"})
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	err := journal.NewS3("letters", "", at(served(t, h))).Put(ctx, "a", nil)
	if err == nil || !strings.Contains(err.Error(), "SlowDown (HTTP 503): S3 was asked too often") || requests.Load() < 2 {
		t.Errorf("after %d requests: %v", requests.Load(), err)
	}
}

// hanging answers no request, until it is asked n times.
func hanging(t *testing.T, n int, then http.Handler) (string, *atomic.Int64) {
	t.Helper()
	requests, end := new(atomic.Int64), make(chan struct{})
	url := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > int64(n) {
			then.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client went
		select {
		case <-r.Context().Done():
		case <-end:
		}
	}))
	t.Cleanup(func() { close(end) })
	return url, requests
}

func TestAnEndpointThatHangsEndsByTheContext(t *testing.T) {
	url, requests := hanging(t, 1<<30, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := journal.NewS3("letters", "", at(url)).Put(ctx, "a", nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in time; check that there is a way to S3") || requests.Load() != 2 {
		t.Errorf("after %d requests: %v, want two tries and the deadline", requests.Load(), err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	canceler := served(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	if _, err := journal.NewS3("letters", "", at(canceler)).Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestATryThatHangsLeavesTimeForAnother(t *testing.T) {
	small := locals3.New("letters")
	url, requests := hanging(t, 1, small)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := journal.NewS3("letters", "", at(url)).Put(ctx, "a", []byte("x")); err != nil || requests.Load() != 2 {
		t.Errorf("after %d requests: %v, want the second to store", requests.Load(), err)
	}
}

// A Put that is not answered for a while goes on beside another try: what is slow is not begun anew in
// vain. Whichever of the two stores the object, it is stored.
func TestASlowPutGoesOnBesideAnotherTry(t *testing.T) {
	for name, first := range map[string]bool{"the first one stores it": true, "the second one does, and the first finds it there": false} {
		t.Run(name, func(t *testing.T) {
			small := locals3.New("letters")
			var puts atomic.Int64
			came, stored, told := make(chan struct{}), make(chan struct{}), make(chan struct{})
			url := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method != http.MethodPut:
					small.ServeHTTP(w, r)
				case puts.Add(1) == 1:
					<-came
					if !first {
						<-stored
					}
					small.ServeHTTP(w, r)
					close(told)
				case first:
					close(came)
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				default:
					close(came)
					small.ServeHTTP(httptest.NewRecorder(), r)
					close(stored)
					<-told
					<-r.Context().Done()
				}
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := journal.NewS3("letters", "", at(url)).Put(ctx, "a", []byte("x")); err != nil {
				t.Errorf("Put: %v", err)
			}
			if names := small.Names("letters", ""); puts.Load() != 2 || len(names) != 1 {
				t.Errorf("%d tries, objects %q", puts.Load(), names)
			}
		})
	}
}

// lossy carries out the first write, and loses its answer.
func lossy(small http.Handler) http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lost := false
		if r.Method == http.MethodPut {
			once.Do(func() { lost = true })
		}
		if lost {
			small.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		small.ServeHTTP(w, r)
	})
}

func TestALostAnswerIsNoFault(t *testing.T) {
	b := journal.NewS3("letters", "", at(served(t, lossy(locals3.New("letters")))))
	if err := b.Put(t.Context(), "a", []byte("ours")); err != nil {
		t.Errorf("Put: %v", err)
	}
	small := locals3.New("letters")
	put(t, journal.NewS3("letters", "", at(served(t, small))), "a")
	b = journal.NewS3("letters", "", at(served(t, lossy(small))))
	o, err := b.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), "a", o.Tag, []byte("ours")); err != nil {
		t.Errorf("Replace: %v", err)
	}
	if o, err := b.Get(t.Context(), "a"); err != nil || string(o.Body) != "ours" {
		t.Errorf("got %q, %v", o.Body, err)
	}
}

// After a fault that stored nothing, another's object is another's.
func TestAnothersObjectIsNotTakenForOurs(t *testing.T) {
	small := locals3.New("letters")
	put(t, journal.NewS3("letters", "", at(served(t, small))), "a")
	url, _ := faulty(t, small, answer{status: 500, code: "InternalError"})
	if err := journal.NewS3("letters", "", at(url)).Put(t.Context(), "a", []byte("ours")); !errors.Is(err, journal.ErrExists) {
		t.Errorf("Put: %v, want ErrExists", err)
	}
	url, _ = faulty(t, small, answer{status: 500, code: "InternalError"})
	if err := journal.NewS3("letters", "", at(url)).Replace(t.Context(), "a", `"other"`, []byte("ours")); !errors.Is(err, journal.ErrChanged) {
		t.Errorf("Replace: %v, want ErrChanged", err)
	}
}

// sent counts the bytes of an answer.
type sent struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (s sent) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.n.Add(int64(n))
	return n, err
}

func TestATooLargeObjectIsRefusedBeforeItIsRead(t *testing.T) {
	const gigabyte = 1 << 30
	for _, told := range []bool{true, false} {
		var n atomic.Int64
		var requests atomic.Int64
		url := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("ETag", `"x"`)
			if told {
				w.Header().Set("Content-Length", fmt.Sprint(gigabyte))
			}
			_, _ = io.CopyN(sent{w, &n}, zeros{}, gigabyte) // the client goes
		}))
		_, err := journal.NewS3("letters", "", at(url)).Get(t.Context(), "a")
		if !errors.Is(err, journal.ErrTooLarge) || requests.Load() != 1 {
			t.Errorf("size told %v: %v after %d requests, want ErrTooLarge at once", told, err, requests.Load())
		}
		most := int64(16 << 20) // what the connection takes unread
		if !told {
			most += journal.MaxObject
		}
		if n.Load() > most {
			t.Errorf("size told %v: %d bytes were sent", told, n.Load())
		}
		if told && !strings.Contains(err.Error(), "1073741824 bytes") {
			t.Errorf("%v does not tell the size", err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestATruncatedTransferIsTriedAgain(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 10_000)
	var requests atomic.Int64
	var cutAll atomic.Bool
	url := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		if requests.Add(1) == 1 || cutAll.Load() {
			_, _ = w.Write(body[:5000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	}))
	b := journal.NewS3("letters", "", at(url))
	if o, err := b.Get(t.Context(), "a"); err != nil || !bytes.Equal(o.Body, body) || requests.Load() != 2 {
		t.Errorf("%d bytes after %d requests, %v", len(o.Body), requests.Load(), err)
	}
	cutAll.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if o, err := b.Get(ctx, "a"); err == nil || !strings.Contains(err.Error(), "the object was cut off") || o.Body != nil {
		t.Errorf("always cut: %d bytes, %v", len(o.Body), err)
	}
}

func fixed(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, text)
	})
}

// An answer of 200 may say that single objects are there still.
func TestErrorsOfADeleteThatWasAnsweredAreErrors(t *testing.T) {
	denied := fixed(`<DeleteResult><Error><Key>p/b</Key><Code>AccessDenied</Code></Error><Error><Key>p/c</Key><Code>AccessDenied</Code></Error></DeleteResult>`)
	err := journal.NewS3("letters", "p/", at(served(t, denied))).Delete(t.Context(), "a", "b", "c")
	if err == nil || !strings.Contains(err.Error(), "delete a and 2 others: 2 not deleted, among them b: AccessDenied: denied: it needs s3:DeleteObject") {
		t.Errorf("denied: %v", err)
	}
	missing := fixed(`<DeleteResult><Error><Key>p/a</Key><Code>NoSuchKey</Code></Error></DeleteResult>`)
	if err := journal.NewS3("letters", "p/", at(served(t, missing))).Delete(t.Context(), "a"); err != nil {
		t.Errorf("missing: %v", err)
	}
	var requests atomic.Int64
	small := locals3.New("letters")
	busy := fixed(`<DeleteResult><Error><Key>p/a</Key><Code>InternalError</Code></Error></DeleteResult>`)
	url := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			busy.ServeHTTP(w, r)
			return
		}
		small.ServeHTTP(w, r)
	}))
	if err := journal.NewS3("letters", "p/", at(url)).Delete(t.Context(), "a"); err != nil || requests.Load() != 2 {
		t.Errorf("busy once: %v after %d requests", err, requests.Load())
	}
}

// Consoles make an object named as the prefix; lists may be encoded, and have empty pages.
func TestListsOfOtherHands(t *testing.T) {
	small := locals3.New("letters")
	url := served(t, small)
	put(t, journal.NewS3("letters", "", at(url)), "p", "pa", "q/a")
	for _, key := range []string{"p/", "p/folder/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/letters/"+key, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	b := journal.NewS3("letters", "p/", at(url))
	put(t, b, "a")
	for _, limit := range []int{0, 1} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := names(t, b, "", after, limit)
			got = append(got, page...)
			if len(page) == 0 || limit == 0 {
				break
			}
		}
		if !slices.Equal(got, []string{"a", "folder/"}) {
			t.Errorf("limit %d: listed %q", limit, got)
		}
	}

	pages := []string{
		`<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>`,
		`<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>p/a%0Ab+c%2Bd%C3%A4</Key></Contents><CommonPrefixes><Prefix>p/x+y/</Prefix></CommonPrefixes></ListBucketResult>`,
	}
	encoded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("encoding-type") != "url" {
			t.Error("the list is not asked for in an encoding that takes all bytes")
		}
		page := 0
		if q.Get("continuation-token") == "t" {
			page = 1
		}
		fixed(pages[page]).ServeHTTP(w, r)
	})
	b = journal.NewS3("letters", "p/", at(served(t, encoded)))
	if got := names(t, b, "", "", 0); !slices.Equal(got, []string{"a\nb c+d\u00e4"}) {
		t.Errorf("decoded %q", got)
	}
	if got, err := b.Folders(t.Context(), ""); err != nil || !slices.Equal(got, []string{"x y/"}) {
		t.Errorf("folders %q, %v", got, err)
	}
}

func TestAnAnswerThatIsNotOfS3IsNoSuccess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	b := journal.NewS3("letters", "", at(served(t, fixed("<html>Welcome"))))
	for call, err := range map[string]error{
		"list": func() error { _, _, err := b.List(ctx, "", "", 0); return err }(), "get": func() error { _, err := b.Get(t.Context(), "a"); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", call)
		}
	}
}

// recorded is an HTTP client that sends nothing.
type recorded struct{ requests []*http.Request }

func (c *recorded) Do(r *http.Request) (*http.Response, error) {
	c.requests = append(c.requests, r)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}
