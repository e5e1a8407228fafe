package lambdahost_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"backstop/internal/lambdahost"
)

func serveInvokeAPI(t *testing.T, o lambdahost.Options, fn lambdahost.Function) (*lambdahost.Host, string) {
	t.Helper()
	h := startHost(t, o, fn)
	srv := httptest.NewServer(h.InvokeAPI())
	t.Cleanup(srv.Close)
	return h, srv.URL
}

func TestTheInvokeAPIAnswersAsTheService(t *testing.T) {
	t.Parallel()
	_, url := serveInvokeAPI(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Async: lambdahost.Async{Retries: -1}})
	const arn = "arn:aws:lambda:us-east-1:123456789012:function:probe"
	tests := []struct {
		name     string
		function string
		kind     string
		body     string
		status   int
		errType  string            // X-Amzn-Errortype
		header   map[string]string // others
		want     string            // contained in the body
	}{
		{"a name", "probe", "", `{"n":1}`, 200, "", map[string]string{"X-Amz-Executed-Version": "$LATEST", "X-Amz-Function-Error": ""}, `{"n":1}`},
		{"a name with a qualifier", "probe:live", "RequestResponse", `[]`, 200, "", nil, `[]`},
		{"an ARN", strings.ReplaceAll(arn, ":", "%3A"), "", `{}`, 200, "", nil, `{}`},
		{"an ARN with a qualifier", arn + ":$LATEST", "", `{}`, 200, "", nil, `{}`},
		{"a partial ARN", "123456789012:function:probe", "", `{}`, 200, "", nil, `{}`},
		{"no payload is an empty object", "probe", "", ``, 200, "", nil, `{}`},
		{"a function error", "probe", "", `{"do":"error"}`, 200, "", map[string]string{"X-Amz-Function-Error": "Unhandled"}, `"errorType":"Refused"`},
		{"an asynchronous invocation", "probe", "Event", `{"do":"error"}`, 202, "", nil, ``},
		{"a dry run", "probe", "DryRun", `{"do":"exit"}`, 204, "", nil, ``},
		{"a dry run of an unknown function", "other", "DryRun", `{}`, 404, "ResourceNotFoundException", nil, "Function not found: arn:aws:lambda:us-east-1:123456789012:function:other"},
		{"an unknown function", "other", "", `{}`, 404, "ResourceNotFoundException", nil, `"Type":"User"`},
		{"an unknown function, asynchronously", "other", "Event", `{}`, 404, "ResourceNotFoundException", nil, "(known: probe)"},
		{"a payload that is no JSON", "probe", "", `{"a":`, 400, "InvalidRequestContentException", nil, "Could not parse request body into json"},
		{"an unknown invocation type", "probe", "Later", `{}`, 400, "InvalidParameterValueException", nil, "Later"},
		{"a synchronous payload over 6 MB", "probe", "", `"` + strings.Repeat("x", 6291456) + `"`, 413, "RequestTooLargeException", nil, "6291456 bytes"},
		{"an asynchronous payload over 1 MB", "probe", "Event", `"` + strings.Repeat("x", 1048576) + `"`, 413, "RequestTooLargeException", nil, "1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, url+"/2015-03-31/functions/"+tt.function+"/invocations", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind != "" {
				req.Header.Set("X-Amz-Invocation-Type", tt.kind)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != tt.status || res.Header.Get("X-Amzn-Errortype") != tt.errType || !strings.Contains(string(body), tt.want) {
				t.Errorf("%d %q %.300s, want %d %q %s", res.StatusCode, res.Header.Get("X-Amzn-Errortype"), body, tt.status, tt.errType, tt.want)
			}
			for k, want := range tt.header {
				if got := res.Header.Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			if res.Header.Get("X-Amzn-Requestid") == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestTheInvokeAPINamesWhatItServes(t *testing.T) {
	t.Parallel()
	_, url := serveInvokeAPI(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	res, err := http.Get(url + "/2015-03-31/functions")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 404 || !strings.Contains(string(body), "/invocations") {
		t.Errorf("%d %s, want 404 that names the route", res.StatusCode, body)
	}
}

func TestTheGoSDKInvokes(t *testing.T) {
	t.Parallel()
	h, url := serveInvokeAPI(t, lambdahost.Options{QueueWait: -1}, lambdahost.Function{Name: "probe", Concurrency: 1, Timeout: time.Minute})
	client := lambda.New(lambda.Options{
		BaseEndpoint: &url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), RetryMaxAttempts: 1,
	})

	out, err := client.Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String("arn:aws:lambda:us-east-1:123456789012:function:probe"), Qualifier: aws.String("live"),
		LogType: types.LogTypeTail, Payload: []byte(`{"print":"from the function\n"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	tail, _ := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if out.StatusCode != 200 || out.FunctionError != nil || aws.ToString(out.ExecutedVersion) != "$LATEST" || !strings.Contains(string(tail), "from the function\n") {
		t.Errorf("%+v, log %q", out, tail)
	}

	_, err = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("other")})
	if e, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || !strings.Contains(e.ErrorMessage(), "Function not found") {
		t.Errorf("error %v, want ResourceNotFoundException", err)
	}
	_, err = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("probe"), Payload: []byte(`{`)})
	if _, ok := errors.AsType[*types.InvalidRequestContentException](err); !ok {
		t.Errorf("error %v, want InvalidRequestContentException", err)
	}

	go func() {
		_, _ = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("probe"), Payload: []byte(`{"do":"hang"}`)})
	}()
	eventually(t, "a busy process", func() bool { return h.Stats("probe").Busy == 1 })
	_, err = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("probe")})
	if e, ok := errors.AsType[*types.TooManyRequestsException](err); !ok || e.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded {
		t.Errorf("error %v, want TooManyRequestsException", err)
	}
}
