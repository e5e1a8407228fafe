package app

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Variables and parameters that "echo" wrote end in a line end, which is part of no value.
func TestALineEndAtAValuesEndIsLeftOut(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", "\n\n"} {
		e, err := ReadEnv(env(minimal("BACKSTOP_REDIS_PASSWORD", "hush"+end, "BACKSTOP_SINKS", "ssm:/a/*"+end, "BACKSTOP_REDIS_URL", "redis://cache:6379"+end,
			"BACKSTOP_KEY_PREFIX", "own"+end, "BACKSTOP_CONCURRENCY", "7"+end, "BACKSTOP_SINKS_TTL", "9s"+end, "BACKSTOP_SERVICE", end)))
		if err != nil || e.RedisPassword.Reveal() != "hush" || e.Sinks.String() != "ssm:/a/*" || e.KeyPrefix != "own" || e.Concurrency != 7 || e.Service != "backstop" {
			t.Errorf("%q: %+v, %v", end, e, err)
		}
		e, err = ReadEnv(env(minimal("BACKSTOP_REDIS_PASSWORD", "ssm:/redis"+end)))
		if err != nil || e.RedisParameter != "/redis" {
			t.Errorf("%q: parameter %q, %v", end, e.RedisParameter, err)
		}
	}

	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, `{"Parameter":{"Name":"/redis","Value":"hush\r\n"}}`)
	}))
	defer store.Close()
	cfg := iamAWS
	cfg.BaseEndpoint = &store.URL
	_, password, err := passwordFrom("/redis", "u", func() (aws.Config, error) { return cfg, nil })(context.WithoutCancel(t.Context()))
	if err != nil || password != "hush" {
		t.Errorf("the parameter's password is %q, %v", password, err)
	}
}
