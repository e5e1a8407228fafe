//go:build full

package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/internal/moto"
	"backstop/lib/fault"
)

// emulator returns a client of an SSM emulator.
func emulator(t *testing.T) *ssm.Client {
	t.Helper()
	url := moto.Start(t)
	creds := credentials.NewStaticCredentialsProvider("test", "test", "")
	return ssm.New(ssm.Options{Region: "eu-central-1", BaseEndpoint: &url, Credentials: creds})
}

func put(t *testing.T, client *ssm.Client, name, value string) {
	t.Helper()
	_, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String(name), Value: aws.String(value), Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The real client against an emulator, over HTTP.
func TestConfigurationFromParameterStore(t *testing.T) {
	client := emulator(t)
	var want []string
	for i := range 23 { // three pages
		name := fmt.Sprintf("sink-%02d", i)
		want = append(want, name)
		put(t, client, "/prod/sinks/"+name, fmt.Sprintf("kind: fake\nurl: https://%s\nheaders: {X-Key: {ssm: /prod/keys/%02d}}\n", name, i))
		put(t, client, fmt.Sprintf("/prod/keys/%02d", i), fmt.Sprint("key ", i))
	}
	put(t, client, "/prod/sinks/below/another", "kind: fake\nurl: x\n")

	t.Run("a path of SecureStrings with references", func(t *testing.T) {
		s := loaded(t, parsed(t, "ssm:/prod/sinks/*"), client, nil)
		if diff := cmp.Diff(want, s.Names()); diff != "" {
			t.Fatalf("names (-want +got)\n%s", diff)
		}
		if len(s.Findings()) != 0 {
			t.Fatalf("findings %v", s.Findings())
		}
		last := s.sinks["sink-22"]
		if got := urlOf(t, last); got != "https://sink-22" {
			t.Errorf("url %q", got)
		}
		if got := last.Sink.(*fakeSink).cfg.Headers["X-Key"].Reveal(); got != "key 22" { //nolint:errcheck // urlOf asserted it
			t.Errorf("header %q, want the decrypted value", got)
		}
	})

	t.Run("one document", func(t *testing.T) {
		put(t, client, "/prod/document", "sinks:\n  a: {kind: fake, url: {ssm: /prod/url}}\n  b: {kind: fake, url: {ssm: '/prod/other:1'}}\n  c: {kind: fake, url: {ssm: /prod/absent}}\n")
		for _, url := range []string{"https://one", "https://two"} {
			put(t, client, "/prod/url", url)
			put(t, client, "/prod/other", url)
		}
		s := loaded(t, parsed(t, "ssm:/prod/document"), client, nil)
		if a, b := urlOf(t, s.sinks["a"]), urlOf(t, s.sinks["b"]); a != "https://two" || b != "https://one" {
			t.Errorf("urls %q and %q, want the newest and the first version", a, b)
		}
		var got []string
		for _, f := range s.Findings() {
			got = append(got, f.String())
		}
		if diff := cmp.Diff([]string{"ssm:/prod/document:4:19: c: url: parameter /prod/absent: does not exist"}, got); diff != "" {
			t.Errorf("findings (-want +got)\n%s", diff)
		}
	})

	t.Run("a wrong path", func(t *testing.T) {
		for _, spec := range []string{"ssm:/nowhere/*", "ssm:/nowhere"} {
			if _, err := Check(t.Context(), parsed(t, spec), client); err == nil || !strings.Contains(err.Error(), spec) {
				t.Errorf("%s: error %v, want it named", spec, err)
			}
		}
	})

	t.Run("a cache sees a change and survives an outage", func(t *testing.T) {
		put(t, client, "/live/sinks/a", "kind: fake\nurl: https://one\n")
		c := NewCache(parsed(t, "ssm:/live/sinks/*"), Options{SSM: client, TTL: time.Nanosecond})
		if a, err := c.Sink(t.Context(), "a"); err != nil || urlOf(t, a) != "https://one" {
			t.Fatalf("sink %v, %v", a, err)
		}
		put(t, client, "/live/sinks/a", "kind: fake\nurl: https://two\n")
		await.True(t, "the changed URL", func() bool {
			a, err := c.Sink(t.Context(), "a")
			return err == nil && urlOf(t, a) == "https://two"
		})
		if _, err := client.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: aws.String("/live/sinks/a")}); err != nil {
			t.Fatal(err)
		}
		await.True(t, "an error about the empty path", func() bool {
			if a, err := c.Sink(t.Context(), "a"); err != nil || urlOf(t, a) != "https://two" {
				t.Fatalf("sink %v, %v, want the last good one", a, err)
			}
			return c.LastError() != nil && strings.Contains(c.LastError().Error(), "no parameters directly under /live/sinks")
		})
		if _, err := c.Sink(t.Context(), "b"); fault.CodeOf(err) != fault.CodeSinkConfigInvalid {
			t.Errorf("an unknown sink: %v, want SINK_CONFIG_INVALID while the source is empty", err)
		}
	})
}
