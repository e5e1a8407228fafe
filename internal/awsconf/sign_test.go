package awsconf_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/internal/awsconf"
	"backstop/lib/sinks"
)

func TestARequestIsSignedWithTheRolesCredentials(t *testing.T) {
	load := func() (aws.Config, error) {
		return aws.Config{Credentials: credentials.NewStaticCredentialsProvider("AKID", "s3cret", "t0ken")}, nil
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := awsconf.Sign(load)(t.Context(), r, []byte("body"), "ses", "eu-west-1"); err != nil {
		t.Fatal(err)
	}
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=AKID/") || !strings.Contains(authorization, "/eu-west-1/ses/aws4_request") ||
		r.Header.Get("X-Amz-Security-Token") != "t0ken" || strings.Contains(authorization, "s3cret") {
		t.Errorf("headers %v", r.Header)
	}
}

func TestWithoutCredentialsNobodyElseIsToBlame(t *testing.T) {
	for name, load := range map[string]func() (aws.Config, error){
		"no configuration": func() (aws.Config, error) { return aws.Config{}, errors.New("bad profile") },
		"none":             func() (aws.Config, error) { return aws.Config{}, nil },
		"refused": func() (aws.Config, error) {
			return aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("the platform is away")
			})}, nil
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.org/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		err = awsconf.Sign(load)(t.Context(), r, nil, "ses", "eu-west-1")
		if !sinks.IsOurs(err) || !sinks.IsTransient(err) || sinks.CodeOf(err) != sinks.CodeSinkUnavailable {
			t.Errorf("%s: %v, want a transient failure of ours", name, err)
		}
	}
}
