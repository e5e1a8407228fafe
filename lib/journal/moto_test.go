//go:build full

package journal_test

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"backstop/internal/moto"
	"backstop/lib/journal"
	"backstop/lib/journal/journaltest"
)

// emulated returns the options of buckets of an S3 emulator, made with versions or without, and a client.
func emulated(t *testing.T, buckets ...string) (journal.S3Options, *s3.Client) {
	t.Helper()
	endpoint := moto.Start(t)
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	for _, bucket := range buckets {
		if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
	}
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	o := at(served(t, oneByOne(httputil.NewSingleHostReverseProxy(target))))
	return o, client
}

// oneByOne lets one request that changes something pass at a time: the emulator looks and then
// stores, where S3 does both in one step.
func oneByOne(h http.Handler) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			mu.Lock()
			defer mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

func TestS3KeepsTheContractOnAnEmulator(t *testing.T) {
	o, _ := emulated(t, "letters")
	var n atomic.Int64
	journaltest.Run(t, func(*testing.T) journal.Bucket {
		return journal.NewS3("letters", fmt.Sprintf("backstop/%d/", n.Add(1)), o)
	})
}

func versioned(t *testing.T, client *s3.Client, bucket string) {
	t.Helper()
	if _, err := client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPurgeOnAnEmulator(t *testing.T) {
	o, client := emulated(t, "letters")
	versioned(t, client, "letters")
	purgeCheck(t, func() journal.Bucket { return journal.NewS3("letters", "p/", o) }, func() map[string]int {
		left := map[string]int{}
		out, err := client.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: aws.String("letters")})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Versions {
			left[*v.Key]++
		}
		for _, m := range out.DeleteMarkers {
			left[*m.Key+" deleted"]++
		}
		return left
	})
}

// What the emulator says of a bucket that is not there is what S3 says.
func TestAMissingBucketOnAnEmulator(t *testing.T) {
	o, _ := emulated(t)
	missingBucketCheck(t, journal.NewS3("letters", "p/", o))
}
