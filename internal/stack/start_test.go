package stack_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/lambdahost"
)

// maxStart is how many times as long as a function that does nothing each of ours may
// take from its start to its first answer.
const maxStart = 3.0

// firstCalls are what each function is asked first: something that needs its
// configuration and, but for send, its dead letters, and nobody outside.
var firstCalls = map[string]string{
	"minimal": `{}`,
	"send":    message("m", "none"), // refused: there is no such sink
	"replay":  `{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`,
	"dlq-api": `{"version":"2.0","routeKey":"ANY /v1/{proxy+}","rawPath":"/v1/sinks","headers":{},"isBase64Encoded":false,` +
		`"requestContext":{"stage":"$default","http":{"method":"GET","path":"/v1/sinks","sourceIp":"127.0.0.1"}}}`,
}

// The time from the start of a process to its first answer, against a minimal
// aws-lambda-go function. All take turns, so that whatever else the machine does meets
// all.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	buildAll(b, dir)
	sinks := b.TempDir()
	if err := os.WriteFile(filepath.Join(sinks, "ok.yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	env := map[string]string{
		"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "AWS_LAMBDA_LOG_FORMAT": "JSON",
	}
	const rounds = 15 // one start says nothing
	took := map[string][]float64{}
	kinds := slices.Sorted(maps.Keys(firstCalls))
	for b.Loop() {
		var fns []lambdahost.Function
		for i := range rounds {
			for _, kind := range kinds {
				fns = append(fns, lambdahost.Function{
					Name: fmt.Sprint(kind, "-", i), Path: filepath.Join(dir, kind, "bootstrap"), Timeout: 10 * time.Second, Env: env,
				})
			}
		}
		host, err := lambdahost.Start(context.Background(), lambdahost.Options{Logger: slog.New(slog.DiscardHandler)}, fns...)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rounds {
			for _, kind := range kinds {
				took[kind] = append(took[kind], firstAnswer(b, host, kind, i))
			}
		}
		if err := host.Close(); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	least := median(took["minimal"])
	for _, kind := range kinds {
		b.ReportMetric(median(took[kind]), "ms-"+kind)
		ratio := median(took[kind]) / least
		if kind != "minimal" {
			b.ReportMetric(ratio, "times-"+kind)
		}
		if ratio > maxStart {
			b.Errorf("%s starts in %.1f ms, %.1f times the %.1f ms of a minimal function; want %.0f times at most",
				kind, median(took[kind]), ratio, least, maxStart)
		}
	}
}

// buildAll builds the functions and the minimal one with the same flags into dir.
func buildAll(b *testing.B, dir string) {
	b.Helper()
	root := filepath.Join("..", "..")
	if err := local.Build(b.Context(), root, dir); err != nil {
		b.Fatal(err)
	}
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w",
		"-o", filepath.Join(dir, "minimal", "bootstrap"), "./internal/stack/testdata/minimal")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

// firstAnswer returns how long a process takes that no one has called yet, in
// milliseconds.
func firstAnswer(b *testing.B, host *lambdahost.Host, kind string, i int) float64 {
	b.Helper()
	start := time.Now()
	res, err := host.Invoke(b.Context(), lambdahost.Invocation{Function: fmt.Sprint(kind, "-", i), Payload: []byte(firstCalls[kind])})
	took := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	if want := map[string]string{"send": "SINK_NOT_FOUND", "replay": `"claimed":0`, "dlq-api": `"statusCode":200`}[kind]; !strings.Contains(string(res.Payload), want) {
		b.Fatalf("%s answered %s, want %s", kind, res.Payload, want)
	}
	return float64(took.Microseconds()) / 1000
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
