package main

import (
	"encoding/json"
	"testing"

	"backstop/internal/version"
)

func TestVersionSaysWhichBuildThisIs(t *testing.T) {
	line := "backstop " + version.Read().String() + "\n"
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if r := run(t, args...); r.code != 0 || r.out != line || r.err != "" {
			t.Errorf("%v: exit code %d, %q, %q; want %q", args, r.code, r.out, r.err, line)
		}
	}
	var got version.Info
	r := run(t, "version", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 || got != version.Read() {
		t.Errorf("exit code %d, %v, %+v from %q", r.code, err, got, r.out)
	}
	run(t, "version", "-o", "yaml").want(t, exitUsage, "", "want table or json")
	run(t, "version", "1").want(t, exitUsage, "", "unknown command")
}
