package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	sinks := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(sinks, "ok.yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600))
	env := map[string]string{
		"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "AWS_LAMBDA_LOG_FORMAT": "JSON",
	}
	const rounds = 31 // one start says nothing
	name := func(function string, i int) string { return fmt.Sprint(function, "-", i) }
	var functions []lambdahost.Function
	for i := range rounds {
		for _, c := range firstCalls {
			functions = append(functions, lambdahost.Function{
				Name: name(c.function, i), Path: filepath.Join(binaries, c.function, "bootstrap"), Timeout: 10 * time.Second, Env: env,
			})
		}
	}
	host, err := lambdahost.Start(context.Background(), lambdahost.Options{}, functions...)
	ok(b, err)
	defer func() { ok(b, host.Close()) }()
	var starts []func(int) error
	for _, c := range firstCalls {
		starts = append(starts, func(i int) error {
			res, err := host.Invoke(context.Background(), lambdahost.Invocation{Function: name(c.function, i), Payload: []byte(c.event)})
			if err == nil && !strings.Contains(string(res.Payload), c.answer) {
				err = fmt.Errorf("%s answered %s, want %s", c.function, res.Payload, c.answer)
			}
			return err
		})
	}
	medians := interleave(b, rounds, starts...)
	for k, c := range firstCalls[1:] {
		report(b, slower("start to first answer of "+c.function+" / a minimal function", "ms", medians[k+1]/1000, medians[0]/1000, 3))
	}
}

// buildMinimal builds the minimal function as ours are built.
func buildMinimal(to string) *exec.Cmd {
	c := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", to, "./minimal")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	return c
}
