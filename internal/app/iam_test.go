package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// presign is SigV4 query signing by the book (AWS General Reference), written
// independently of the SDK.
func presign(host, region, service, key, secret, token string, at time.Time, query url.Values) string {
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	date, day := at.UTC().Format("20060102T150405Z"), at.UTC().Format("20060102")
	scope := strings.Join([]string{day, region, service, "aws4_request"}, "/")
	query.Set("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
	query.Set("X-Amz-Credential", key+"/"+scope)
	query.Set("X-Amz-Date", date)
	query.Set("X-Amz-SignedHeaders", "host")
	query.Set("X-Amz-Security-Token", token)
	var pairs []string
	for k, v := range query {
		pairs = append(pairs, url.QueryEscape(k)+"="+strings.ReplaceAll(url.QueryEscape(v[0]), "+", "%20"))
	}
	slices.Sort(pairs)
	canonical := strings.Join([]string{"GET", "/", strings.Join(pairs, "&"), "host:" + host + "\n", "host", sum("")}, "\n")
	signing := mac(mac(mac(mac([]byte("AWS4"+secret), day), region), service), "aws4_request")
	return hex.EncodeToString(mac(signing, strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, sum(canonical)}, "\n")))
}

func TestTheCacheTokenIsAPresignedConnect(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cfg := aws.Config{Region: "eu-central-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET", SessionToken: "TO/KEN+="}, nil
	})}
	for _, cache := range []iamCache{{Name: "my-cache", Serverless: true}, {Name: "my-group"}} {
		token, err := iamToken(t.Context(), cfg, cache, "app-user", at)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse("http://" + token)
		if err != nil || u.Host != cache.Name || u.Path != "/" || strings.Contains(token, "://") {
			t.Fatalf("token %q is not <cache>/?...", token)
		}
		query := u.Query()
		want := url.Values{"Action": {"connect"}, "User": {"app-user"}, "X-Amz-Expires": {"900"}}
		if cache.Serverless {
			want.Set("ResourceType", "ServerlessCache")
		}
		if got := presign(cache.Name, cfg.Region, "elasticache", "AKID", "SECRET", "TO/KEN+=", at, want); query.Get("X-Amz-Signature") != got {
			t.Errorf("%+v: signature %s, an independent one is %s", cache, query.Get("X-Amz-Signature"), got)
		}
		for k, v := range want {
			if query.Get(k) != v[0] {
				t.Errorf("%+v: %s = %q, want %q", cache, k, query.Get(k), v[0])
			}
		}
	}
}
