package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestABuildIsToldByWhatTheToolchainRecorded(t *testing.T) {
	const commit = "4fcec3cf12f2ed51d4bcdabbe7e51e2e980656f7"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs", Value: "git"},
			{Key: "vcs.revision", Value: commit},
			{Key: "vcs.time", Value: "2026-11-26T17:53:09Z"},
			{Key: "vcs.modified", Value: modified},
		}
	}
	ours, platform := module(), runtime.GOOS+"/"+runtime.GOARCH
	for _, c := range []struct {
		name  string
		build debug.BuildInfo
		want  Info
		line  string
	}{
		{
			"a release",
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: ours, Version: "v1.2.3"}, Settings: vcs("false")},
			Info{Version: "v1.2.3", Revision: commit, Time: "2026-11-26T17:53:09Z", Go: "go1.26.8", OS: runtime.GOOS, Arch: runtime.GOARCH},
			"v1.2.3 " + commit + " 2026-11-26T17:53:09Z go1.26.8 " + platform,
		},
		{
			"a changed tree",
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: ours, Version: "v0.0.0-20261126175309-4fcec3cf12f2+dirty"}, Settings: vcs("true")},
			Info{
				Version: "v0.0.0-20261126175309-4fcec3cf12f2+dirty", Revision: commit, Modified: true, Time: "2026-11-26T17:53:09Z",
				Go: "go1.26.8", OS: runtime.GOOS, Arch: runtime.GOARCH,
			},
			"v0.0.0-20261126175309-4fcec3cf12f2+dirty " + commit + "+dirty 2026-11-26T17:53:09Z go1.26.8 " + platform,
		},
		{
			"a tree without version control",
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: ours, Version: "(devel)"}},
			Info{Version: "devel", Go: "go1.26.8", OS: runtime.GOOS, Arch: runtime.GOARCH},
			"devel go1.26.8 " + platform,
		},
		{
			"a bundle of one's own",
			debug.BuildInfo{
				GoVersion: "go1.26.8", Main: debug.Module{Path: "example.org/team/bundle", Version: "v0.3.0"}, Settings: vcs("false"),
				Deps: []*debug.Module{{Path: "example.org/other", Version: "v9.9.9"}, {Path: ours, Version: "v1.2.3"}},
			},
			Info{
				Version: "v1.2.3", Program: "example.org/team/bundle v0.3.0", Revision: commit, Time: "2026-11-26T17:53:09Z",
				Go: "go1.26.8", OS: runtime.GOOS, Arch: runtime.GOARCH,
			},
			"v1.2.3 in example.org/team/bundle v0.3.0 " + commit + " 2026-11-26T17:53:09Z go1.26.8 " + platform,
		},
		{
			"a bundle that replaces Backstop by a folder",
			debug.BuildInfo{
				GoVersion: "go1.26.8", Main: debug.Module{Path: "example.org/team/bundle", Version: "(devel)"},
				Deps: []*debug.Module{{Path: ours, Version: "v1.2.3", Replace: &debug.Module{Path: "../.."}}},
			},
			Info{Version: "devel", Program: "example.org/team/bundle devel", Go: "go1.26.8", OS: runtime.GOOS, Arch: runtime.GOARCH},
			"devel in example.org/team/bundle devel go1.26.8 " + platform,
		},
		{
			"a program without build information",
			debug.BuildInfo{},
			Info{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
			"devel " + runtime.Version() + " " + platform,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := of(&c.build)
			if got != c.want {
				t.Errorf("got\n%+v, want\n%+v", got, c.want)
			}
			if got.String() != c.line {
				t.Errorf("got line\n%s, want\n%s", got, c.line)
			}
		})
	}
}

// The running program's main module is this one, under whatever path it is published.
func TestTheRunningProgramIsBackstop(t *testing.T) {
	if i := Read(); i.Program != "" || i.Version == "" || i.Go != runtime.Version() {
		t.Errorf("%+v, want a build of %s", i, module())
	}
}
