//go:build full

package functions_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"backstop/internal/local"
)

func TestTheAWSCLIInvokesEachSampleEvent(t *testing.T) {
	t.Parallel()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Fatal("the AWS CLI is missing: pip install awscli")
	}
	dir := t.TempDir()
	for _, tt := range eventTests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			s := start(t, local.Options{Samples: true})
			out := filepath.Join(dir, tt.file)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, aws, "lambda", "invoke", "--endpoint-url", s.InvokeURL, "--region", "eu-central-1",
				"--function-name", tt.function, "--payload", "fileb://../events/"+tt.file, out)
			c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_PAGER=")
			if b, err := c.CombinedOutput(); err != nil || strings.Contains(string(b), "FunctionError") {
				t.Fatalf("%v\n%s", err, b)
			}
			payload, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			tt.check(t, payload)
		})
	}
}
