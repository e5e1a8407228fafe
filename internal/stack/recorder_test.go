//go:build full

package stack_test

import (
	"bytes"
	"encoding/json"
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
// action was called.
func checkActions(t *testing.T, r *recorder, s stack) {
	t.Helper()
	for _, u := range r.unknown {
		t.Errorf("a call that no permission is known for: %s", u)
	}
	for _, f := range functions {
		calls := r.by(f)
		used := map[string]bool{}
		allowed := s.permissions(t, s.roleOf(t, f))
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
				t.Errorf("%s calls %s on %s, which its role does not allow", f, c.Action, c.Resource)
			}
		}
		for _, st := range allowed {
			for _, a := range st.Action {
				for _, pattern := range st.Resource {
					if st.Effect == "Allow" && !slices.Contains(platform, a) && !used[a+" "+pattern] {
						t.Errorf("%s may call %s on %s, and never did: %v", f, a, pattern, calls)
					}
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
