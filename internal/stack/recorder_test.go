//go:build full

package stack_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// call is one call of an AWS service, as IAM sees it.
type call struct {
	Caller, Action, Resource string
}

// recorder stands between the functions and AWS and notes who calls what. A caller is
// known by its access key, which each function has of its own.
type recorder struct {
	mu    sync.Mutex
	calls map[call]int
	// unknown are requests that it could not read.
	unknown []string
}

func newRecorder() *recorder { return &recorder{calls: map[call]int{}} }

// before returns the URL of a proxy before target.
func (r *recorder) before(t *testing.T, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(u)
			p.Out.Host = p.In.Host
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // long polls that the test's end cuts off
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.note(req, body)
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

var credential = regexp.MustCompile(`Credential=([^/]+)/\d+/[^/]+/([^/]+)/`)

func (r *recorder) note(req *http.Request, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := credential.FindStringSubmatch(req.Header.Get("Authorization"))
	if m == nil {
		r.unknown = append(r.unknown, req.Method+" "+req.URL.Path+" is not signed")
		return
	}
	caller, service := m[1], m[2]
	action, resources := iamOf(service, req, body)
	if len(resources) == 0 {
		r.unknown = append(r.unknown, service+" "+req.Method+" "+req.URL.Path+" "+req.Header.Get("X-Amz-Target"))
	}
	for _, res := range resources {
		r.calls[call{caller, service + ":" + action, res}]++
	}
}

// iamOf translates a request to the action and the resources that IAM checks.
func iamOf(service string, req *http.Request, body []byte) (action string, resources []string) {
	if service == "s3" {
		return iamOfS3(req, body)
	}
	arn := func(rest string) string { return "arn:aws:" + service + ":" + region + ":" + account + ":" + rest }
	_, action, _ = strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	var in struct {
		Path, Name string
		Names      []string
		QueueURL   string // QueueUrl; names match in any case
	}
	_ = json.Unmarshal(body, &in) // what cannot be read has no resources
	switch service {
	case "ssm":
		for _, name := range append(in.Names, in.Path, in.Name) {
			if name != "" {
				resources = append(resources, arn("parameter"+name))
			}
		}
		if in.Path != "" {
			resources = append(resources, arn("parameter"+in.Path+"/one"))
		}
	case "sqs":
		action = strings.TrimSuffix(action, "Batch")
		if in.QueueURL != "" {
			resources = []string{arn(in.QueueURL[strings.LastIndex(in.QueueURL, "/")+1:])}
		}
	case "lambda":
		if name, ok := strings.CutPrefix(req.URL.Path, "/2015-03-31/functions/"); ok {
			if name, ok = strings.CutSuffix(name, "/invocations"); ok {
				action, resources = "InvokeFunction", []string{arn("function:" + name)}
			}
		}
	}
	return action, resources
}

// iamOfS3 is iamOf for S3, which has its calls in method, path and query. The path begins with the
// bucket: that is how its client calls an address.
func iamOfS3(req *http.Request, body []byte) (action string, resources []string) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	arn, query := "arn:aws:s3:::"+bucket, req.URL.Query()
	version := ""
	if query.Get("versionId") != "" {
		version = "Version"
	}
	switch {
	case bucket == "":
		return "", nil
	case req.Method == "POST" && key == "" && query.Has("delete"):
		// IAM is asked for each object, and the versions are another right. A call has one kind of them here.
		var in struct {
			Object []struct{ Key, VersionId string } //nolint:revive,staticcheck // as S3 calls it
		}
		_ = xml.Unmarshal(body, &in) // what cannot be read has no resources
		action = "DeleteObject"
		for _, o := range in.Object {
			if o.VersionId != "" {
				action = "DeleteObjectVersion"
			}
			resources = append(resources, arn+"/"+o.Key)
		}
		return action, resources
	case req.Method == "GET" && key == "" && query.Has("versions"):
		return "ListBucketVersions", []string{arn}
	case req.Method == "GET" && key == "" && query.Get("list-type") == "2":
		return "ListBucket", []string{arn}
	case key == "":
		return "", nil // the functions look at nothing else of a bucket
	}
	verb, ok := map[string]string{"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[req.Method]
	if !ok || verb == "PutObject" && len(query) > 0 && !query.Has("x-id") { // tags, rights and other parts of an object
		return "", nil
	}
	return verb + version, []string{arn + "/" + key}
}

// Rights are checked by what the recorder reads: a call that it takes for another one would be allowed by
// that one's.
func TestTheRecorderKnowsTheCallsOfS3(t *testing.T) {
	for _, tt := range []struct{ method, url, body, action, resources string }{
		{"PUT", "/letters/backstop/open/mail/a/x-1.ndjson?x-id=PutObject", "{}", "PutObject", "arn:aws:s3:::letters/backstop/open/mail/a/x-1.ndjson"},
		{"GET", "/letters/backstop/open/x?x-id=GetObject", "", "GetObject", "arn:aws:s3:::letters/backstop/open/x"},
		{"GET", "/letters/backstop/open/x?versionId=v1", "", "GetObjectVersion", "arn:aws:s3:::letters/backstop/open/x"},
		{"DELETE", "/letters/backstop/open/x", "", "DeleteObject", "arn:aws:s3:::letters/backstop/open/x"},
		{"GET", "/letters?list-type=2&prefix=backstop%2Fopen%2F", "", "ListBucket", "arn:aws:s3:::letters"},
		{"GET", "/letters/?list-type=2", "", "ListBucket", "arn:aws:s3:::letters"},
		{"GET", "/letters?versions&prefix=x", "", "ListBucketVersions", "arn:aws:s3:::letters"},
		{"POST", "/letters?delete", "<Delete><Object><Key>a/b</Key></Object><Object><Key>c</Key></Object></Delete>", "DeleteObject", "arn:aws:s3:::letters/a/b arn:aws:s3:::letters/c"},
		{"POST", "/letters?delete", "<Delete><Object><Key>a</Key><VersionId>v</VersionId></Object></Delete>", "DeleteObjectVersion", "arn:aws:s3:::letters/a"},
		{"PUT", "/letters/x?tagging", "", "", ""},
		{"GET", "/letters?policy", "", "", ""},
		{"GET", "/", "", "", ""},
	} {
		action, resources := iamOf("s3", httptest.NewRequest(tt.method, tt.url, strings.NewReader(tt.body)), []byte(tt.body))
		if action != tt.action || strings.Join(resources, " ") != tt.resources {
			t.Errorf("%s %s is %s on %v, want %s on %s", tt.method, tt.url, action, resources, tt.action, tt.resources)
		}
	}
}

// by returns the calls of one caller.
func (r *recorder) by(caller string) []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []call
	for c := range maps.Keys(r.calls) {
		if c.Caller == caller {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b call) int { return strings.Compare(a.Action+a.Resource, b.Action+b.Resource) })
	return out
}

// platform lists the actions of the platform in a function's name; no function can be seen
// calling them.
var platform = []string{
	"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords", "sqs:GetQueueAttributes",
}

// checkActions checks that every call of a full run was allowed, and that every allowed
// action was called; those of the journal are in TestTheRolesAllowWhatTheJournalCalls.
func checkActions(t *testing.T, r *recorder, s stack) {
	t.Helper()
	for _, u := range r.unknown {
		t.Errorf("a call that no permission is known for: %s", u)
	}
	for _, f := range functions {
		checkActionsOf(t, r, s, f, func(action string) bool {
			return !slices.Contains(platform, action) && !strings.HasPrefix(action, "s3:")
		})
	}
}

// checkActionsOf is checkActions for one function. Those of its rights that seen names must have been used.
func checkActionsOf(t *testing.T, r *recorder, s stack, function string, seen func(action string) bool) {
	t.Helper()
	calls := r.by(function)
	used := map[string]bool{}
	allowed := s.permissions(t, s.roleOf(t, function))
	for _, c := range calls {
		ok := false
		for _, st := range allowed {
			if st.Effect != "Allow" || !slices.Contains(st.Action, c.Action) {
				continue
			}
			for _, pattern := range st.Resource {
				if matches(pattern, c.Resource) {
					ok, used[c.Action+" "+pattern] = true, true
				}
			}
		}
		if !ok {
			t.Errorf("%s calls %s on %s, which its role does not allow", function, c.Action, c.Resource)
		}
	}
	for _, st := range allowed {
		for _, a := range st.Action {
			for _, pattern := range st.Resource {
				if st.Effect == "Allow" && seen(a) && !used[a+" "+pattern] {
					t.Errorf("%s may call %s on %s, and never did", function, a, pattern)
				}
			}
		}
	}
}

// matches tells whether an ARN is one of a pattern's.
func matches(pattern, arn string) bool {
	re := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
	return regexp.MustCompile("^" + re + "$").MatchString(arn)
}
