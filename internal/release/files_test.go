//go:build full

package main

import (
	"archive/zip"
	"bytes"
	"debug/buildinfo"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// files are a release's, without its version.
var files = []string{
	"NOTES.md", "SHA256SUMS", "backstop_V_darwin_amd64.zip", "backstop_V_darwin_arm64.zip", "backstop_V_linux_amd64.zip", "backstop_V_linux_arm64.zip",
	"dlq-api_V_linux_amd64.zip", "dlq-api_V_linux_arm64.zip", "replay_V_linux_amd64.zip", "replay_V_linux_arm64.zip", "send_V_linux_amd64.zip", "send_V_linux_arm64.zip",
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// checkFiles checks that a release has its files and no more, that the checksums are theirs,
// and that each binary is the release, for its platform.
func checkFiles(t *testing.T, root, version string) {
	t.Helper()
	dir := filepath.Join(root, "build", "release", version)
	listed, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range listed {
		names = append(names, strings.Replace(f.Name(), version, "V", 1))
	}
	if !slices.Equal(names, files) {
		t.Fatalf("files\n%q, want\n%q", names, files)
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(read(t, dir, "SHA256SUMS"), ".zip\n"); n != len(files)-2 {
		t.Errorf("%d checksums, want one for each zip", n)
	}
	for _, name := range names[2:] {
		binary, platform, _ := strings.Cut(strings.TrimSuffix(name, ".zip"), "_V_")
		program := "bootstrap"
		if binary == "backstop" {
			program = "backstop"
		}
		r, err := zip.OpenReader(filepath.Join(dir, strings.Replace(name, "V", version, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.File) != 2 || r.File[0].Name != program || r.File[0].Mode() != 0o755 || r.File[1].Name != "LICENSE" {
			t.Fatalf("%s has %v, want an executable %s, and the license", name, r.File, program)
		}
		if got, want := r.File[0].Modified.Unix(), git(t, root, "log", "-1", "--format=%ct"); strconv.FormatInt(got, 10) != want {
			t.Errorf("%s was modified at %d, want the commit's %s", name, got, want)
		}
		content, err := r.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		build, err := buildinfo.Read(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, s := range build.Settings {
			settings[s.Key] = s.Value
		}
		if got := settings["GOOS"] + "_" + settings["GOARCH"]; build.Main.Version != version || settings["vcs.modified"] != "false" || settings["CGO_ENABLED"] != "0" || got != platform {
			t.Errorf("%s is %s for %s, %v", name, build.Main.Version, got, settings)
		}
		if oldest := map[string]string{"amd64": settings["GOAMD64"], "arm64": settings["GOARM64"]}[settings["GOARCH"]]; oldest != "v1" && oldest != "v8.0" {
			t.Errorf("%s needs a processor of %s", name, oldest)
		}
		r.Close()
	}
}

// A dry run builds what the release is, byte for byte, and so does whoever has the tag.
func TestAReleaseIsFilesACommitAndATag(t *testing.T) {
	t.Setenv("GOARM64", "v9.0") // a developer's own, which must not count
	t.Setenv("MAKEFLAGS", "ARCH=mips OUT=/nowhere")
	source := repository(t)
	bare := filepath.Join(t.TempDir(), "origin.git")
	git(t, source, "clone", "--quiet", "--bare", ".", bare)
	git(t, source, "remote", "add", "origin", bare)
	git(t, source, "fetch", "--quiet", "origin")
	published, before := git(t, bare, "show-ref"), state(t, source)

	if out, err := makeRelease(t, source, "v1.2.3", true); err != nil || !strings.Contains(out, "Nothing was committed or tagged") {
		t.Fatalf("%v\n%s", err, out)
	}
	checkFiles(t, source, "v1.2.3")
	dry := read(t, source, "build/release/v1.2.3/SHA256SUMS")
	if after := state(t, source); after != before {
		t.Errorf("after a dry run the repository is\n%s, was\n%s", after, before)
	}

	out, err := makeRelease(t, source, "v1.2.3", false)
	if err != nil || !strings.Contains(out, "git push origin HEAD v1.2.3") {
		t.Fatalf("%v\n%s", err, out)
	}
	checkFiles(t, source, "v1.2.3")
	if got := read(t, source, "build/release/v1.2.3/SHA256SUMS"); got != dry {
		t.Errorf("the release's checksums are\n%s, the dry run's\n%s", got, dry)
	}
	if got := read(t, source, "CHANGELOG.md"); got != "# Changelog\n\n## Unreleased\n\n## v1.2.3 - 2026-11-27\n\n- A thing.\n" {
		t.Errorf("the changelog is\n%s", got)
	}
	if got := git(t, source, "log", "-2", "--format=%s|%an|%D"); got != "Release v1.2.3|Somebody|HEAD -> main, tag: v1.2.3\nAll of it|Somebody|origin/main" {
		t.Errorf("the history is\n%s", got)
	}
	if got := git(t, source, "cat-file", "-t", "v1.2.3") + git(t, source, "tag", "--list", "--format=%(contents)"); got != "tagv1.2.3\n\n- A thing." {
		t.Errorf("the tag is %q", got)
	}
	if got := git(t, source, "status", "--porcelain"); got != "" {
		t.Errorf("the tree has changes:\n%s", got)
	}
	if got := git(t, bare, "show-ref"); got != published {
		t.Errorf("the origin has\n%s, had\n%s", got, published)
	}
	notes := read(t, source, "build/release/v1.2.3/NOTES.md")
	for _, want := range []string{"# Backstop v1.2.3\n", "\n- A thing.\n", runtime.Version(), git(t, source, "rev-parse", "HEAD")} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
	if _, err := makeRelease(t, source, "v1.2.4", false); err == nil || !strings.Contains(err.Error(), "nothing to release") {
		t.Errorf("a second release: %v", err)
	}

	other := filepath.Join(t.TempDir(), "another place")
	git(t, source, "clone", "--quiet", ".", other)
	cmd := exec.CommandContext(t.Context(), "make", "release", "VERSION=v1.2.3", "DRY=1")
	cmd.Dir, cmd.Env = other, slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "MAKEFLAGS=") })
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Nothing was committed or tagged") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := read(t, other, "build/release/v1.2.3/SHA256SUMS"); got != dry {
		t.Errorf("built from the tag, the checksums are\n%s, want\n%s", got, dry)
	}
}

// This tree itself, as somebody who clones it would release it, for this machine: the other
// platforms are cold to the compiler.
func TestThisTreeCanBeReleased(t *testing.T) {
	root := filepath.Join(t.TempDir(), "clone")
	git(t, filepath.Join("..", ".."), "clone", "--quiet", "--no-tags", ".", root)
	git(t, root, "config", "user.name", "Somebody")
	git(t, root, "config", "user.email", "somebody@example.org")
	replace(t, root, "CHANGELOG.md", unreleased+"\n", unreleased+"\n\n- Something, also right after a release.\n")
	git(t, root, "commit", "--quiet", "--all", "--message", "Something")
	const version = "v0.0.1-rc.1"
	platform := runtime.GOOS + "/" + runtime.GOARCH
	r := release{
		root: root, version: version, today: today, out: t.Output(),
		architectures: []string{runtime.GOARCH}, platforms: []string{platform},
	}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	built, cli := filepath.Join(root, "build", "release", version), filepath.Join(t.TempDir(), "backstop")
	for _, function := range []string{"send", "replay", "dlq-api"} {
		if _, err := os.Stat(filepath.Join(built, function+"_"+version+"_linux_"+runtime.GOARCH+".zip")); err != nil {
			t.Error(err)
		}
	}
	unzip(t, filepath.Join(built, "backstop_"+version+"_"+strings.ReplaceAll(platform, "/", "_")+".zip"), "backstop", cli)
	out, err := exec.CommandContext(t.Context(), cli, "--version").Output()
	if want := "backstop " + version + " " + git(t, root, "rev-parse", "HEAD") + " "; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}

func unzip(t *testing.T, archive, name, to string) {
	t.Helper()
	r, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := r.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o700); err != nil {
		t.Fatal(err)
	}
}
