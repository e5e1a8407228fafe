//go:build full

package functions_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// awayFromAPI runs commands against an API that refuses, is away or is none.
func (o operator) awayFromAPI(t *testing.T) {
	t.Helper()
	refusing := httptest.NewServer(http.HandlerFunc(quote))
	t.Cleanup(refusing.Close)
	html := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, "<html>%v", r.Header)
	}))
	t.Cleanup(html.Close)
	for _, c := range []struct {
		code int
		api  string
		args []string
	}{
		{exitUnauthorized, refusing.URL, []string{"--token", planted["API token"]}},
		{exitUnauthorized, refusing.URL, []string{"--sign"}},
		{exitUnavailable, html.URL, []string{"--token", planted["API token"]}},
		{exitUnavailable, html.URL, []string{"--sign"}},
		{exitUnavailable, "http://" + freeAddr(t), []string{"--sign"}},
		{exitUsage, "http://robot:" + planted["API password"] + "@ho st", nil},
		{exitUsage, "robot:" + planted["API password"] + "@host", nil},
	} {
		o := o.with("BACKSTOP_API", c.api)
		o.run(t, c.code, append([]string{"sinks"}, c.args...)...)
		o.run(t, c.code, append([]string{"dlq", "list", "-o", "json"}, c.args...)...)
		o.run(t, c.code, append([]string{"dlq", "export"}, c.args...)...)
		o.run(t, c.code, append([]string{"send", "--sink", "x", "--body", "y", "--tries", "1"}, c.args...)...)
	}
}

// configure checks and pushes configurations with secrets, good and bad ones.
func (o operator) configure(t *testing.T) {
	t.Helper()
	all, good := t.TempDir(), t.TempDir()
	names := sweptSinks(t, all, map[string]string{"plain": "127.0.0.1:8080", "tls": "127.0.0.1:8443", "closed": "127.0.0.1:9", "smtp": "127.0.0.1:25"})
	var document strings.Builder
	document.WriteString("sinks:\n")
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(all, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&document, "  %s:\n    %s\n", name, strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n    "))
		if !strings.HasPrefix(name, "faulty-") {
			if err := os.WriteFile(filepath.Join(good, name+".yaml"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		o.run(t, exitFailed, "config", "check", onlySink(t, name, b))
	}
	one := filepath.Join(t.TempDir(), "sinks.yaml")
	if err := os.WriteFile(one, []byte(document.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{all, one} {
		o.run(t, exitFailed, "config", "check", source)
		o.run(t, exitFailed, "config", "check", source, "-o", "json")
		o.run(t, exitFailed, "config", "push", source, "ssm:/backstop/prod/sinks", "--yes")
	}
	o.run(t, exitDone, "config", "check", good)
	o.run(t, exitDone, "config", "check", good, "-o", "json")

	const path = "ssm:/backstop/prod/sinks"
	o.run(t, exitDone, "config", "push", good, path, "--allow-placeholders", "--dry-run")
	o.run(t, exitUsage, "config", "push", good, path, "--allow-placeholders") // nobody to ask
	o.run(t, exitDone, "config", "push", good, path, "--allow-placeholders", "--yes")
	o.run(t, exitDone, "config", "push", good, path, "--allow-placeholders", "--yes") // all unchanged
	changed := filepath.Join(good, "webhook-200.yaml")
	b, err := os.ReadFile(changed)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(changed, append(b, "on_ambiguous: park\n"...), 0o600), os.Remove(filepath.Join(good, "webhook-204.yaml"))); err != nil {
		t.Fatal(err)
	}
	o.run(t, exitDone, "config", "push", good, path, "--allow-placeholders", "--yes", "--prune")
	o.run(t, exitDone, "config", "check", path+"/*")
	o.run(t, exitNotFound, "config", "check", path)

	long := onlySink(t, "long", []byte("kind: webhook\nurl: https://receiver.example/"+planted["url path"]+strings.Repeat("x", 9000)+"\n"))
	o.run(t, exitUsage, "config", "push", long, path, "--allow-placeholders", "--yes")
}

// onlySink is a folder with the configuration of one sink.
func onlySink(t *testing.T, name string, text []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name+".yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// broken runs what calls AWS with credentials and services that do not do.
func (o operator) broken(t *testing.T) {
	t.Helper()
	echo := httptest.NewServer(http.HandlerFunc(quote))
	t.Cleanup(echo.Close)
	// Everything is as it should be but the answer to a write.
	store := &parameterStore{}
	write := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "PutParameter") {
			quote(w, r)
			return
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(write.Close)
	secret := planted["credentials file"]
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := onlySink(t, "orders", []byte("kind: webhook\nurl: https://receiver.example/"+planted["url path"]+"\n"))
	for what, env := range map[string][]string{
		"a service that quotes": {"AWS_ENDPOINT_URL", echo.URL},
		"a write that is quoted": {
			"AWS_ENDPOINT_URL_SSM", write.URL, "AWS_ENDPOINT_URL_SQS", echo.URL,
		},
		"nobody there":             {"AWS_ENDPOINT_URL", "http://" + freeAddr(t)},
		"a malformed file":         {"AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", "", "AWS_SHARED_CREDENTIALS_FILE", file("[default\naws_secret_access_key " + secret + "\n" + secret + "]")},
		"a file without a key id":  {"AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", "", "AWS_SHARED_CREDENTIALS_FILE", file("[default]\naws_secret_access_key = " + secret + "\n")},
		"a process that fails":     {"AWS_ACCESS_KEY_ID", "", "AWS_SECRET_ACCESS_KEY", "", "AWS_CONFIG_FILE", file("[default]\ncredential_process = echo " + secret + "\n")},
		"a key id without its key": {"AWS_SECRET_ACCESS_KEY", ""},
	} {
		t.Run(what, func(t *testing.T) {
			o := o.with(env...)
			for _, args := range [][]string{
				{"config", "push", dir, "ssm:/backstop/prod/sinks", "--allow-placeholders", "--yes"},
				{"redrive", "list", "--redrive-queue", "https://sqs.us-east-1.amazonaws.com/1/q"},
				{"redrive", "send", "--redrive-queue", "https://sqs.us-east-1.amazonaws.com/1/q", "--queue", "https://sqs.us-east-1.amazonaws.com/1/p", "--yes"},
			} {
				code := exitUnauthorized
				if what == "nobody there" {
					code = exitUnavailable
				}
				o.run(t, code, args...)
			}
			if what != "a write that is quoted" {
				o.run(t, map[bool]int{true: exitUnavailable, false: exitUnauthorized}[what == "nobody there"], "config", "check", "ssm:/backstop/prod/sinks/*")
			}
		})
	}
}

// No command shows a secret of the configuration, of AWS or of the API, whatever fails.
func TestNoCommandShowsASecret(t *testing.T) {
	t.Parallel()
	sw := &sweep{}
	emulator := startMoto(t)
	o := newOperator(t, sw, "AWS_ENDPOINT_URL", emulator.url)
	emulator.put(t, "/backstop/secret", planted["ssm reference"])
	o.configure(t)
	o.redrive(t, emulator.url)
	o.awayFromAPI(t)
	o.with("AWS_ENDPOINT_URL", "").broken(t)
	sw.wantClean(t, 100)
}

// redrive lists and sends back what is in a redrive queue, and fails to.
func (o operator) redrive(t *testing.T, endpoint string) {
	t.Helper()
	c := sqs.New(sqs.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
	var queues []string
	for _, name := range []string{"redrive", "main"} {
		out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(name)})
		if err != nil {
			t.Fatal(err)
		}
		queues = append(queues, *out.QueueUrl)
	}
	if _, err := c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &queues[0], MessageBody: aws.String(`{"sink":"x","message":{"body":"y"}}`)}); err != nil {
		t.Fatal(err)
	}
	o.run(t, exitDone, "redrive", "list", "--redrive-queue", queues[0])
	o.run(t, exitDone, "redrive", "list", "--redrive-queue", queues[0], "-o", "json")
	o.run(t, exitDone, "redrive", "send", "--redrive-queue", queues[0], "--queue", queues[1], "--dry-run")
	o.run(t, exitNotFound, "redrive", "list", "--redrive-queue", queues[0]+"-absent")
	o.run(t, exitUsage, "redrive", "list", "--redrive-queue", "https://robot:"+planted["API password"]+"@sqs.us-east-1.amazonaws.com/1/q")
}
