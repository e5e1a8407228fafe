package journal_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/internal/locals3"
	"backstop/lib/journal"
	"backstop/lib/journal/journaltest"
)

// at returns the options of a bucket at an endpoint.
func at(endpoint string) journal.S3Options {
	return journal.S3Options{AWS: func() (aws.Config, error) {
		return aws.Config{
			Region: "eu-west-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("KEYHUSH", "SECRETHUSH", "TOKENHUSH"),
		}, nil
	}}
}

// served returns the URL of a handler that ends with the test.
func served(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestS3KeepsTheContract(t *testing.T) {
	url := served(t, locals3.New("letters"))
	var n atomic.Int64
	journaltest.Run(t, func(*testing.T) journal.Bucket {
		return journal.NewS3("letters", fmt.Sprintf("backstop/%d/", n.Add(1)), at(url))
	})
}

func TestS3KeepsTheContractWithoutAPrefix(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Bucket {
		return journal.NewS3("letters", "", at(served(t, locals3.New("letters"))))
	})
}

func missingBucketCheck(t *testing.T, b journal.Bucket) {
	t.Helper()
	for verb, err := range everyCall(t.Context(), b) {
		if err == nil || !strings.Contains(err.Error(), "journal s3://letters/p: "+verb) || !strings.Contains(err.Error(), "there is no such bucket: make it, or correct its name") {
			t.Errorf("%s: %v", verb, err)
		}
		if errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrChanged) {
			t.Errorf("%s: %v is taken for a missing object", verb, err)
		}
	}
}

// everyCall makes each call, and returns their errors by what errors call them.
func everyCall(ctx context.Context, b journal.Bucket) map[string]error {
	_, getErr := b.Get(ctx, "a")
	_, _, listErr := b.List(ctx, "", "", 0)
	_, foldersErr := b.Folders(ctx, "a/")
	_, _, purgeErr := b.Purge(ctx, "", "", func(string, []byte) bool { return true })
	return map[string]error{
		"put a": b.Put(ctx, "a", []byte("x")), "get a": getErr, "replace a": b.Replace(ctx, "a", `"tag"`, []byte("x")), "delete a": b.Delete(ctx, "a"),
		"list all": listErr, "list a/": foldersErr, "purge all": purgeErr,
	}
}

func TestAMissingBucket(t *testing.T) {
	missingBucketCheck(t, journal.NewS3("letters", "p/", at(served(t, locals3.New("others")))))
}
