package main

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/internal/moto"
)

const (
	motoRegion = "eu-west-1"
	motoSecret = "not-really-secret"
)

// useMoto points the AWS SDK at the emulator, for the commands and for the returned
// configuration.
func useMoto(t *testing.T) aws.Config {
	t.Helper()
	url := moto.Shared(t)
	t.Setenv("AWS_ENDPOINT_URL", url)
	t.Setenv("AWS_REGION", motoRegion)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", motoSecret)
	return aws.Config{
		Region: motoRegion, BaseEndpoint: aws.String(url),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", motoSecret, ""),
	}
}
