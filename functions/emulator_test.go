//go:build full

package functions_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"backstop/internal/moto"
)

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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := m.ssm.PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(value), Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
}
