package awsconf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"backstop/internal/awsconf"
)

// A service that finds a signature wrong says back what it expected to be signed: the session's token is in it.
func TestNoWordOfARefusalShowsTheToken(t *testing.T) {
	const token = "t0ken-of-a-session"
	t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("AWS_SESSION_TOKEN", token)
	t.Setenv("AWS_REGION", "eu-west-1")
	quoting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "InvalidSignatureException", "message": fmt.Sprint("expected: ", r.Header)})
	}))
	t.Cleanup(quoting.Close)
	t.Setenv("AWS_ENDPOINT_URL", quoting.URL)

	cfg, err := awsconf.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: new("x")})
	refused, ok := errors.AsType[smithy.APIError](err)
	if !ok || refused.ErrorCode() != "InvalidSignatureException" {
		t.Fatalf("error %v", err)
	}
	operation, ok := errors.AsType[*smithy.OperationError](err)
	if !ok {
		t.Fatalf("no operation in %v", err)
	}
	for what, text := range map[string]string{
		"the error": err.Error(), "the cause": operation.Err.Error(), "the refusal": refused.Error(), "its message": refused.ErrorMessage(),
	} {
		if strings.Contains(text, token) || !strings.Contains(text, "[redacted]") {
			t.Errorf("%s: %s", what, text)
		}
	}
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || e.HTTPStatusCode() != http.StatusForbidden {
		t.Error("the answer's status is lost")
	}
}
