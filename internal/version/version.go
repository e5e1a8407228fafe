// Package version tells which Backstop a program is: from what the Go toolchain records in
// every binary, so that no flag of a build can be forgotten.
package version

import (
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
)

// devel is the version of a build that the toolchain knows none for.
const devel = "devel"

// Info is a build. The zero value is a build of which nothing is known.
type Info struct {
	// Version of Backstop's module: a release such as v1.2.3, a pseudo-version with the
	// revision in it (with +dirty for a changed tree), or devel where the toolchain was given
	// no version control.
	Version string `json:"version"`
	// Program is the main module with its version when Backstop is a dependency of it. The
	// revision is then this module's. Empty: Backstop's own program.
	Program string `json:"program,omitempty"`
	// Revision is the commit that the program was built from. Empty: unknown.
	Revision string `json:"revision,omitempty"`
	// Modified says that the tree had changes that were not committed.
	Modified bool `json:"modified"`
	// Time of the commit, RFC 3339 in UTC. Empty: unknown.
	Time string `json:"time,omitempty"`
	// Go is the toolchain's version.
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

// Read returns the build of the running program.
func Read() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return of(build)
}

// of reads the build information of the running program.
func of(build *debug.BuildInfo) Info {
	i := Info{Version: devel, Go: build.GoVersion, OS: runtime.GOOS, Arch: runtime.GOARCH}
	if i.Go == "" {
		i.Go = runtime.Version()
	}
	own := &build.Main
	if own.Path != "" && own.Path != module() {
		i.Program = strings.TrimSpace(own.Path + " " + named(own.Version))
		own = &debug.Module{}
		for _, d := range build.Deps {
			if d.Path == module() {
				own = d
			}
		}
		if own.Replace != nil {
			own = own.Replace
		}
	}
	i.Version = named(own.Version)
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Revision = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		case "vcs.time":
			i.Time = s.Value
		}
	}
	return i
}

// named is a module's version as people read it.
func named(version string) string {
	if version == "" || version == "(devel)" {
		return devel
	}
	return version
}

// module is the path of Backstop's module, whatever whoever publishes it calls it.
func module() string {
	path, _, _ := strings.Cut(reflect.TypeFor[Info]().PkgPath(), "/internal/")
	return path
}

// String is one line: the version, the revision, the commit's time, the toolchain and the
// platform.
func (i Info) String() string {
	parts := []string{i.Version}
	if i.Program != "" {
		parts = append(parts, "in "+i.Program)
	}
	if i.Revision != "" {
		revision := i.Revision
		if i.Modified {
			revision += "+dirty"
		}
		parts = append(parts, revision)
	}
	if i.Time != "" {
		parts = append(parts, i.Time)
	}
	return strings.Join(append(parts, i.Go, i.OS+"/"+i.Arch), " ")
}
