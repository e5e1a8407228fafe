package stack_test

import (
	"context"
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
	host, err := lambdahost.Start(context.Background(), lambdahost.Options{Logger: slog.New(slog.DiscardHandler)},
		lambdahost.Function{Name: "minimal", Path: minimal, Timeout: 10 * time.Second},
		lambdahost.Function{Name: "send", Path: filepath.Join(dir, "send", "bootstrap"), Timeout: 10 * time.Second, Env: map[string]string{
			"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "AWS_EC2_METADATA_DISABLED": "true",
		}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = host.Close() })

	took := map[string][]float64{}
	for b.Loop() {
		for _, name := range []string{"minimal", "send"} {
			host.Kill(name)
			start := time.Now()
			// No such sink: an answer that needs configuration and no receiver.
			if _, err := host.Invoke(b.Context(), lambdahost.Invocation{Function: name, Payload: []byte(message("m", "none"))}); err != nil {
				b.Fatal(err)
			}
			took[name] = append(took[name], float64(time.Since(start).Microseconds())/1000)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(took["minimal"]), "ms-minimal")
	b.ReportMetric(median(took["send"]), "ms-send")
	ratio := median(took["send"]) / median(took["minimal"])
	b.ReportMetric(ratio, "times")
	if ratio > maxStart {
		b.Errorf("send starts in %.1f times the time of a minimal function, want %.0f at most", ratio, maxStart)
	}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
