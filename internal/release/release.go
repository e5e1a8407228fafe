package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// release is one run.
type release struct {
	root    string // the repository's folder
	version string // such as v1.2.3
	dry     bool   // build, and leave the repository as it is
	today   time.Time
	out     io.Writer // what is done, for the person who runs it

	architectures []string // of the functions, on Linux
	platforms     []string // of the CLI
}

// What a release is for.
var (
	allArchitectures = []string{"arm64", "amd64"}
	allPlatforms     = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}
)

// run builds in a clone of what is committed, and hands the clone's commit and tag to the
// repository when every file is there: a release that fails leaves nothing behind. Where the
// tag exists, a dry run builds from it, and anybody can compare the checksums.
func (r *release) run(ctx context.Context) error {
	tagged, err := r.check(ctx)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "backstop-release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	tree := filepath.Join(work, "tree")
	if _, err := r.git(ctx, r.root, "clone", "--quiet", "--no-hardlinks", ".", tree); err != nil {
		return err
	}
	if tagged {
		_, err = r.git(ctx, tree, "checkout", "--quiet", "--detach", "refs/tags/"+r.version)
	} else {
		err = r.commit(ctx, tree)
	}
	if err != nil {
		return err
	}
	files := filepath.Join(r.root, "build", "release", r.version)
	if err := os.RemoveAll(files); err != nil {
		return err
	}
	if err := os.MkdirAll(files, 0o755); err != nil { //nolint:gosec // for everybody
		return err
	}
	if err := r.build(ctx, tree, filepath.Join(work, "bin"), files); err != nil {
		return err
	}
	if err := r.notes(ctx, tree, filepath.Join(files, "NOTES.md")); err != nil {
		return err
	}
	if r.dry {
		r.say("The files of %s are in %s. Nothing was committed or tagged.", r.version, files)
		return nil
	}
	return r.adopt(ctx, tree, files)
}

// check refuses what cannot become a release, and reports whether it is one already.
func (r *release) check(ctx context.Context) (tagged bool, err error) {
	if !semver.IsValid(r.version) || semver.Canonical(r.version) != r.version {
		return false, fmt.Errorf("VERSION %q: want a semantic version with its v, such as v1.2.3 or v1.2.3-rc.1", r.version)
	}
	gomod, err := os.ReadFile(filepath.Join(r.root, "go.mod"))
	if err != nil {
		return false, err
	}
	_, major, _ := module.SplitPathVersion(modfile.ModulePath(gomod))
	if err := module.CheckPathMajor(r.version, major); err != nil {
		return false, fmt.Errorf("VERSION and the module path in go.mod do not go together: %w", err)
	}
	status, err := r.git(ctx, r.root, "status", "--porcelain")
	if err != nil {
		return false, err
	}
	if status != "" {
		return false, fmt.Errorf("the tree has changes that are not committed:\n%s", status)
	}
	tag, err := r.git(ctx, r.root, "tag", "--list", r.version)
	if err != nil {
		return false, err
	}
	if tag != "" && !r.dry {
		return false, fmt.Errorf("the tag %s exists; DRY=1 builds its files again", r.version)
	}
	return tag != "", nil
}

// commit cuts the changelog in the clone, commits it and tags the commit. The commit has
// its parent's time, so that the files of a dry run are those of the release that follows
// on the same day.
func (r *release) commit(ctx context.Context, tree string) error {
	path := filepath.Join(tree, "CHANGELOG.md")
	changelog, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	whole, err := cut(string(changelog), r.version, r.today)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(whole), 0o644); err != nil { //nolint:gosec // as it was
		return err
	}
	for _, key := range []string{"user.name", "user.email"} { // a clone has not the repository's own
		if value, err := r.git(ctx, r.root, "config", "--get", key); err == nil {
			if _, err := r.git(ctx, tree, "config", key, value); err != nil {
				return err
			}
		}
	}
	parents, err := r.git(ctx, tree, "log", "-1", "--format=%cI")
	if err != nil {
		return err
	}
	dated := []string{"GIT_AUTHOR_DATE=" + parents, "GIT_COMMITTER_DATE=" + parents}
	if _, err := r.command(ctx, tree, dated, "git", "commit", "--quiet", "--all", "--message", "Release "+r.version); err != nil {
		return err
	}
	message, err := section(whole, r.version)
	if err != nil {
		return err
	}
	_, err = r.git(ctx, tree, "tag", "--annotate", "--cleanup=whitespace", "--message", r.version+"\n\n"+message, r.version)
	return err
}

// build builds everything from the clone into bin and packs it into files.
func (r *release) build(ctx context.Context, tree, bin, files string) error {
	seconds, err := r.git(ctx, tree, "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	at := time.Unix(unix, 0)
	license := entry{"LICENSE", filepath.Join(tree, "LICENSE"), 0o644}
	add := func(name, program, path string) error {
		if err := r.isTheRelease(path); err != nil {
			return err
		}
		return pack(filepath.Join(files, name+".zip"), at, entry{program, path, 0o755}, license)
	}
	for _, arch := range r.architectures {
		out := filepath.Join(bin, arch)
		r.say("build the functions for %s", arch)
		if _, err := r.command(ctx, tree, compiler(), "make", "--silent", "build", "ARCH="+arch, "OUT="+out); err != nil {
			return err
		}
		functions, err := os.ReadDir(out)
		if err != nil {
			return err
		}
		for _, f := range functions {
			name := fmt.Sprintf("%s_%s_linux_%s", f.Name(), r.version, arch)
			if err := add(name, "bootstrap", filepath.Join(out, f.Name(), "bootstrap")); err != nil {
				return err
			}
		}
	}
	for _, platform := range r.platforms {
		goos, arch, _ := strings.Cut(platform, "/")
		r.say("build the CLI for %s", platform)
		path := filepath.Join(bin, "cli", goos, arch, "backstop")
		target := append(compiler(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
		if _, err := r.command(ctx, tree, target, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/backstop"); err != nil {
			return err
		}
		if err := add(fmt.Sprintf("backstop_%s_%s_%s", r.version, goos, arch), "backstop", path); err != nil {
			return err
		}
	}
	return checksums(files)
}

// compiler is the environment of a build: the commit goes into the binary, and the
// developer's processor and habits do not.
func compiler() []string {
	return []string{"GOFLAGS=-buildvcs=true", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0"}
}

// isTheRelease checks what a binary will say of itself.
func (r *release) isTheRelease(path string) error {
	build, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	if build.Main.Version != r.version {
		return fmt.Errorf("%s says it is %q, want %s", path, build.Main.Version, r.version)
	}
	return nil
}

// notes writes what goes beside the files where they are published.
func (r *release) notes(ctx context.Context, tree, path string) error {
	changelog, err := os.ReadFile(filepath.Join(tree, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	said, err := section(string(changelog), r.version)
	if err != nil {
		return err
	}
	commit, err := r.git(ctx, tree, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	toolchain, err := r.command(ctx, tree, nil, "go", "env", "GOVERSION")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`# Backstop %[1]s

%[2]s

## Files

- send, replay and dlq-api: the functions, each a `+"`bootstrap`"+` for `+"`provided.al2023`"+` on arm64 and x86_64 (amd64)
- backstop: the CLI, for Linux and macOS
- SHA256SUMS: check it with `+"`sha256sum -c SHA256SUMS`"+`

Built with %[3]s from %[4]s. With the same Go, `+"`make release VERSION=%[1]s DRY=1`"+` in a clone builds the same bytes.
`, r.version, said, toolchain, commit)
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // for everybody
}

// adopt takes the clone's commit and tag into the repository. A branch that moved meanwhile
// keeps neither.
func (r *release) adopt(ctx context.Context, tree, files string) error {
	tag := "refs/tags/" + r.version
	if _, err := r.git(ctx, r.root, "fetch", "--quiet", "--no-tags", tree, tag+":"+tag); err != nil {
		return err
	}
	if _, err := r.git(ctx, r.root, "merge", "--quiet", "--ff-only", tag); err != nil {
		_, undo := r.git(ctx, r.root, "tag", "--delete", r.version)
		return errors.Join(err, undo)
	}
	r.say(`%[1]s is committed and tagged here, and its files are in %[2]s. Nothing was pushed. Next:
  git show %[1]s                  look at it
  git push origin HEAD %[1]s      publish the commit and the tag
  then make a release of the tag from NOTES.md, and attach the zips and SHA256SUMS.
To take it back before that: git tag -d %[1]s && git reset --hard HEAD~1`, r.version, files)
	return nil
}

func (r *release) say(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// git runs git in a folder and returns what it prints, trimmed.
func (r *release) git(ctx context.Context, dir string, args ...string) (string, error) {
	return r.command(ctx, dir, nil, "git", args...)
}

// command runs a program in a folder with more environment, and returns what it prints,
// trimmed. What a surrounding make or git said to its children is not for this one.
func (r *release) command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}, key)
	}), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
