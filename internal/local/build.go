package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds the functions for this machine into dir, with the flags of the Makefile.
// root is the project's folder.
func Build(ctx context.Context, root, dir string) error {
	for _, name := range []string{"send", "replay", "dlq-api"} {
		c := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", //nolint:gosec // fixed names
			"-o", filepath.Join(dir, name, "bootstrap"), "./functions/"+name)
		c.Dir = root
		c.Env = append(os.Environ(), "CGO_ENABLED=0") //nolint:forbidigo // the compiler's environment
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}
