package functions_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"backstop/internal/moto"
)

// parameterStore answers like SSM Parameter Store over HTTP, for faults that an
// emulator does not have. Parameters with "denied" in their name are refused.
type parameterStore struct {
	mu     sync.Mutex
	values map[string]string
}

func (p *parameterStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type parameter struct{ Name, Value string }
	var in struct {
		Name, Path string
		Names      []string
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if strings.Contains(in.Name+in.Path+strings.Join(in.Names, " "), "denied") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"not for you"}`)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found, missing := []parameter{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if name == in.Name || path.Dir(name) == in.Path || slices.Contains(in.Names, name) {
			found = append(found, parameter{name, p.values[name]})
		}
	}
	for _, name := range in.Names {
		if _, ok := p.values[name]; !ok {
			missing = append(missing, name)
		}
	}
	switch {
	case in.Name == "":
		_ = json.NewEncoder(w).Encode(map[string]any{"Parameters": found, "InvalidParameters": missing})
	case len(found) == 0:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ParameterNotFound"}`)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"Parameter": found[0]})
	}
}

// emulator is a running AWS emulator.
type emulator struct {
	url string
	ssm *ssm.Client
}

// startMoto starts an emulator that ends with the test.
func startMoto(t *testing.T) emulator {
	t.Helper()
	m := emulator{url: moto.Start(t)}
	m.ssm = ssm.New(ssm.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(m.url),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		}),
	})
	return m
}

// put writes a SecureString.
func (m emulator) put(t *testing.T, name, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := m.ssm.PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(value), Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
}

// freeAddr is an address of loopback where nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
