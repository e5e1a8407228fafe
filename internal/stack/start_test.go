package stack_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/lambdahost"
)

// maxStart is how many times as long as a function that does nothing the send function
// may take from its start to its first answer.
const maxStart = 3.0

// The time from the start of a process to its first answer, against a minimal
// aws-lambda-go function. Both take turns, so that whatever else the machine does meets
// both.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	root := filepath.Join("..", "..")
	if err := local.Build(b.Context(), root, dir); err != nil {
		b.Fatal(err)
	}
	minimal := filepath.Join(dir, "minimal", "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", minimal, "./internal/stack/testdata/minimal")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	sinks := b.TempDir()
	if err := os.WriteFile(filepath.Join(sinks, "ok.yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	env := map[string]string{
		"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "AWS_EC2_METADATA_DISABLED": "true",
	}
	const rounds = 15 // one start says nothing
	took := map[string][]float64{}
	for b.Loop() {
		var fns []lambdahost.Function
		for i := range rounds {
			fns = append(fns,
				lambdahost.Function{Name: fmt.Sprint("minimal-", i), Path: minimal, Timeout: 10 * time.Second},
				lambdahost.Function{Name: fmt.Sprint("send-", i), Path: filepath.Join(dir, "send", "bootstrap"), Timeout: 10 * time.Second, Env: env})
		}
		host, err := lambdahost.Start(context.Background(), lambdahost.Options{Logger: slog.New(slog.DiscardHandler)}, fns...)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rounds {
			for _, kind := range []string{"minimal", "send"} {
				start := time.Now()
				// No such sink: an answer that needs the configuration and no receiver.
				in := lambdahost.Invocation{Function: fmt.Sprint(kind, "-", i), Payload: []byte(message("m", "none"))}
				if _, err := host.Invoke(b.Context(), in); err != nil {
					b.Fatal(err)
				}
				took[kind] = append(took[kind], float64(time.Since(start).Microseconds())/1000)
			}
		}
		_ = host.Close()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took["minimal"]), "ms-minimal")
	b.ReportMetric(median(took["send"]), "ms-send")
	ratio := median(took["send"]) / median(took["minimal"])
	b.ReportMetric(ratio, "times")
	if ratio > maxStart {
		b.Errorf("send starts in %.1f ms, %.1f times the %.1f ms of a minimal function; want %.0f times at most",
			median(took["send"]), ratio, median(took["minimal"]), maxStart)
	}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
