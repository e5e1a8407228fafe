package awsconf_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"backstop/internal/awsconf"
)

// alone takes away what of the machine's own configuration the SDK would find.
func alone(t *testing.T, env map[string]string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range env {
		t.Setenv(name, value)
	}
}

// What the environment says counts as it does with profiles.
func TestTheEnvironmentAloneSaysTheSameAsTheSDKsChain(t *testing.T) {
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "the-token" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"CONTAINER","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(served.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tls.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-west-1"}
	for name, c := range map[string]struct {
		env    map[string]string
		noKeys bool
	}{
		"a function's":   {},
		"another region": {env: map[string]string{"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-gov-west-1"}},
		"a container's":  {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": served.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token"}, noKeys: true},
		"a token in a file": {env: map[string]string{
			"AWS_CONTAINER_CREDENTIALS_FULL_URI": served.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token,
		}, noKeys: true},
		"keys and a container":      {env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1"}},
		"one endpoint":              {env: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}},
		"endpoints of services":     {env: map[string]string{"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SSM": "http://127.0.0.1:2", "AWS_ENDPOINT_URL": "http://127.0.0.1:3"}},
		"endpoints that are not":    {env: map[string]string{"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": "http://127.0.0.1:3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}},
		"retries":                   {env: map[string]string{"AWS_MAX_ATTEMPTS": "7", "AWS_RETRY_MODE": "adaptive"}},
		"FIPS and dual stack":       {env: map[string]string{"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}},
		"defaults":                  {env: map[string]string{"AWS_DEFAULTS_MODE": "in-region"}},
		"checksums and compression": {env: map[string]string{"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required", "AWS_DISABLE_REQUEST_COMPRESSION": "true", "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "5"}},
		"who it is":                 {env: map[string]string{"AWS_SDK_UA_APP_ID": "us", "AWS_ACCOUNT_ID": "123456789012", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required"}},
		"authorities":               {env: map[string]string{"AWS_CA_BUNDLE": bundle}},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, nil)
			for k, v := range keys {
				if !c.noKeys || k == "AWS_REGION" {
					t.Setenv(k, v)
				}
			}
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			want, err := awsconf.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := awsconf.Environment(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantKeys, err := want.Credentials.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			gotKeys, err := got.Credentials.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if gotKeys.AccessKeyID != wantKeys.AccessKeyID || gotKeys.SecretAccessKey != wantKeys.SecretAccessKey ||
				gotKeys.SessionToken != wantKeys.SessionToken || gotKeys.CanExpire != wantKeys.CanExpire || gotKeys.AccountID != wantKeys.AccountID {
				t.Errorf("credentials of %s, want those of %s", gotKeys.Source, wantKeys.Source)
			}
			if (got.HTTPClient == nil) != (want.HTTPClient == nil) || len(got.APIOptions) != len(want.APIOptions) {
				t.Errorf("client %v and %d options, want %v and %d", got.HTTPClient, len(got.APIOptions), want.HTTPClient, len(want.APIOptions))
			}
			for _, both := range [][2]any{
				{optionsOf(ssm.NewFromConfig(got).Options()), optionsOf(ssm.NewFromConfig(want).Options())},
				{optionsOf(sqs.NewFromConfig(got).Options()), optionsOf(sqs.NewFromConfig(want).Options())},
				{optionsOf(s3.NewFromConfig(got).Options()), optionsOf(s3.NewFromConfig(want).Options())},
				{optionsOf(got), optionsOf(want)},
			} {
				if !reflect.DeepEqual(both[0], both[1]) {
					t.Errorf("got\n%v, want\n%v", both[0], both[1])
				}
			}
		})
	}
}

// optionsOf returns the fields that are plain values, by name.
func optionsOf(options any) map[string]string {
	out := map[string]string{}
	v := reflect.ValueOf(options)
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		switch f.Kind() { //nolint:exhaustive // the others are functions and clients
		case reflect.Bool, reflect.String, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Slice, reflect.Struct, reflect.Uint8:
			if name != "ConfigSources" && name != "APIOptions" && name != "HTTPSignerV4" && name != "AuthSchemes" {
				out[name] = fmt.Sprintf("%+v", f.Interface())
			}
		}
	}
	return out
}

// Whoever has no credentials learns it when they are needed, and not before: a configuration in files needs none.
func TestWithoutCredentialsTheErrorSaysWhatIsMissing(t *testing.T) {
	alone(t, map[string]string{"AWS_REGION": "eu-west-1"})
	cfg, err := awsconf.Environment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("x")})
	if err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("error %v", err)
	}
}

func TestEnvironmentsThatCannotBeMeantAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/credentials", "AWS_CA_BUNDLE": "/no/such/file", "AWS_RETRY_MODE": "often",
	} {
		t.Run(name, func(t *testing.T) {
			alone(t, map[string]string{"AWS_REGION": "eu-west-1", name: value})
			if _, err := awsconf.Environment(t.Context()); err == nil || name != "AWS_RETRY_MODE" && !strings.Contains(err.Error(), name) {
				t.Errorf("error %v, want it to name %s", err, name)
			}
		})
	}
	for _, fine := range []string{"http://127.0.0.1:9001/x", "http://localhost/x", "http://[::1]/x", "http://169.254.170.23/v1", "http://[fd00:ec2::23]/v1", "https://192.0.2.1/x"} {
		alone(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": fine})
		if _, err := awsconf.Environment(t.Context()); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
}
