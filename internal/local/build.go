package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Build builds the functions for this machine into dir, with the flags of the Makefile.
// root is the project's folder.
func Build(ctx context.Context, root, dir string) error {
	for _, name := range []string{"send", "replay", "dlq-api"} {
		if err := build(ctx, root, "./functions/"+name, filepath.Join(dir, name, "bootstrap")); err != nil {
			return err
		}
	}
	return nil
}

// BuildCLI builds the command backstop for this machine into dir.
func BuildCLI(ctx context.Context, root, dir string) error {
	return build(ctx, root, "./cmd/backstop", filepath.Join(dir, "backstop"))
}

// build makes one binary. The go command keeps what `go run` links, unlike what `go build`
// links: of all the test processes that need a binary, the first links it.
func build(ctx context.Context, root, pkg, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	flags := []string{"-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w"}
	if _, err := command(ctx, root, append(append([]string{"run"}, flags...), "-exec", "cp", pkg, file)...); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	// The go command repeats a test's result until something changes that the test's process looked
	// at. What a compiler reads in a process of its own does not count: so look at it here.
	files, err := sources(ctx, root, append(flags, pkg)...)
	if err != nil {
		return fmt.Errorf("sources of %s: %w", pkg, err)
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return err
		}
	}
	return nil
}

// sources are the files of this project that a binary is made of.
func sources(ctx context.Context, root string, flagsAndPackage ...string) ([]string, error) {
	out, err := command(ctx, root, append([]string{"list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{.GoMod}}
{{range $.GoFiles}}{{$.Dir}}/{{.}}
{{end}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}{{end}}`}, flagsAndPackage...)...)
	files := strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
	slices.Sort(files)
	return slices.Compact(files), err
}

// command runs the go command in root.
func command(ctx context.Context, root string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed arguments
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0") //nolint:forbidigo // the compiler's environment
	out, err := c.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w\n%s", err, e.Stderr)
	}
	return string(out), err
}
