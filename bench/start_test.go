package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"backstop/internal/lambdahost"
	"backstop/internal/redistest"
)

// firstCalls are what each function is asked first: something that needs its
// configuration and, but for send, its dead letters, and nobody outside.
var firstCalls = []struct{ function, answer, event string }{
	{"minimal", `"ok"`, `{}`},
	{"send", "SINK_NOT_FOUND", `{"sink":"none","message":{"body":"x"}}`},
	{"replay", `"claimed":0`, `{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`},
	{"dlq-api", `"statusCode":200`, `{"version":"2.0","routeKey":"ANY /v1/{proxy+}","rawPath":"/v1/sinks","headers":{},"isBase64Encoded":false,` +
		`"requestContext":{"stage":"$default","http":{"method":"GET","path":"/v1/sinks","sourceIp":"127.0.0.1"}}}`},
}

// BenchmarkStart takes the time from the start of a process to its first answer, against
// a minimal aws-lambda-go function.
func BenchmarkStart(b *testing.B) {
	ok(b, build())
	out, err := buildMinimal(filepath.Join(binaries, "minimal", "bootstrap")).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	var all []start
	for _, c := range firstCalls {
		all = append(all, start{filepath.Join(binaries, c.function, "bootstrap"), c.answer, c.event, nil})
	}
	medians := starts(b, all...)
	for k, c := range firstCalls[1:] {
		report(b, slower("start to first answer of "+c.function+" / a minimal function", "ms", medians[k+1], medians[0], 3))
	}
}

// start is a function and what it is asked first.
type start struct {
	path, answer, event string
	env                 []string
}

// starts returns the median time, in ms, from the start of a process to its first answer.
func starts(b *testing.B, all ...start) []float64 {
	b.Helper()
	sinks := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(sinks, "ok.yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600))
	redisURL := redistest.Start(b).URL()
	const rounds = 31 // one start says nothing
	name := func(k, i int) string { return fmt.Sprintf("start-%d-%d", k, i) }
	var functions []lambdahost.Function
	for i := range rounds {
		for k, s := range all {
			env := map[string]string{"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redisURL, "AWS_LAMBDA_LOG_FORMAT": "JSON"}
			for _, e := range s.env {
				key, value, _ := strings.Cut(e, "=")
				env[key] = value
			}
			functions = append(functions, lambdahost.Function{Name: name(k, i), Path: s.path, Timeout: 10 * time.Second, Env: env})
		}
	}
	host, err := lambdahost.Start(context.Background(), lambdahost.Options{}, functions...)
	ok(b, err)
	defer func() { ok(b, host.Close()) }()
	var calls []func(int) error
	for k, s := range all {
		calls = append(calls, func(i int) error {
			res, err := host.Invoke(context.Background(), lambdahost.Invocation{Function: name(k, i), Payload: []byte(s.event)})
			if err == nil && !strings.Contains(string(res.Payload), s.answer) {
				err = fmt.Errorf("%s answered %s, want %s", s.path, res.Payload, s.answer)
			}
			return err
		})
	}
	medians := interleave(b, rounds, calls...)
	for k := range medians {
		medians[k] /= 1000
	}
	return medians
}

// BenchmarkStartJournal tells what the journal's client of S3 costs send: to a process that may
// need it and has no dead letter yet, and of its binary. The baseline is built without it.
func BenchmarkStartJournal(b *testing.B) {
	ok(b, build())
	with, without := filepath.Join(binaries, "send", "bootstrap"), filepath.Join(b.TempDir(), "bootstrap")
	if out, err := buildWithoutS3(b, without).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	c := firstCalls[1]
	medians := starts(b,
		start{with, c.answer, c.event, []string{"BACKSTOP_JOURNAL=s3://letters/p"}},
		start{with, c.answer, c.event, nil},
		start{without, c.answer, c.event, nil},
	)
	report(b, slower("start to first answer of send, journal on S3 / send built without its client", "ms", medians[0], medians[2], none))
	report(b, slower("start to first answer of send, no journal / send built without its client", "ms", medians[1], medians[2], none))
	report(b, slower("binary of send / send built without the client of S3", "MiB", size(b, with), size(b, without), none))
}

// buildWithoutS3 builds send as it is built, with testdata/without_s3.go in the place of the journal's
// client of S3.
func buildWithoutS3(b *testing.B, to string) *exec.Cmd {
	b.Helper()
	stub, err := filepath.Abs("testdata/without_s3.go")
	ok(b, err)
	root, err := filepath.Abs("..")
	ok(b, err)
	replaced, err := filepath.Glob(filepath.Join(root, "lib", "journal", "s3*.go"))
	ok(b, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, file := range replaced {
		overlay.Replace[file] = "" // it is not there
	}
	overlay.Replace[filepath.Join(root, "lib", "journal", "s3.go")] = stub
	raw, err := json.Marshal(overlay)
	ok(b, err)
	file := filepath.Join(b.TempDir(), "overlay.json")
	ok(b, os.WriteFile(file, raw, 0o600))
	c := exec.Command("go", "build", "-overlay", file, "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", to, "./functions/send")
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	return c
}

// BenchmarkStartKinds tells what the kinds cost send that need no code of their own, and the push kinds: its
// start and its binary. The baseline is built with email, slack and webhook alone.
func BenchmarkStartKinds(b *testing.B) {
	ok(b, build())
	with, without := filepath.Join(binaries, "send", "bootstrap"), filepath.Join(b.TempDir(), "bootstrap")
	if out, err := buildWithThreeKinds(b, without).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	c := firstCalls[1]
	medians := starts(b, start{with, c.answer, c.event, nil}, start{without, c.answer, c.event, nil})
	report(b, slower("start to first answer of send, every kind / email, slack and webhook alone", "ms", medians[0], medians[1], 1.1))
	more := size(b, with) - size(b, without)
	report(b, slower("binary of send, every kind / email, slack and webhook alone", "MiB", size(b, with), size(b, without), none))
	report(b, slower("what the other kinds add to the binary of send / 3 MB", "MiB", more, 3e6/(1<<20), 1))
}

// buildWithThreeKinds builds send as it is built, but for the kinds that came later, which its main and
// internal/app's set-up import.
func buildWithThreeKinds(b *testing.B, to string) *exec.Cmd {
	b.Helper()
	root, err := filepath.Abs("..")
	ok(b, err)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	later := regexp.MustCompile(`(?m)^.*(backstop/lib/sinks/(apns|fcm|http|webpush)"|backstop/internal/awsconf"|\b(apns|fcm|httpkind)\.).*\n`)
	for i, name := range []string{"functions/send/main.go", "internal/app/proxy.go"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		ok(b, err)
		left := later.ReplaceAll(text, nil)
		if len(left) == len(text) {
			b.Fatalf("%s imports no kind that came later", name)
		}
		file := filepath.Join(b.TempDir(), fmt.Sprintf("overlay-%d.go", i))
		ok(b, os.WriteFile(file, left, 0o600))
		overlay.Replace[filepath.Join(root, name)] = file
	}
	raw, err := json.Marshal(overlay)
	ok(b, err)
	file := filepath.Join(b.TempDir(), "overlay.json")
	ok(b, os.WriteFile(file, raw, 0o600))
	c := exec.Command("go", "build", "-overlay", file, "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", to, "./functions/send")
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	return c
}

// size is that of a file, in MiB.
func size(b *testing.B, path string) float64 {
	b.Helper()
	info, err := os.Stat(path)
	ok(b, err)
	return float64(info.Size()) / (1 << 20)
}

// buildMinimal builds the minimal function as ours are built.
func buildMinimal(to string) *exec.Cmd {
	c := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", to, "./minimal")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	return c
}
