//go:build full

package moto

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAMissingEmulatorIsAFailureThatSaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := start(); err == nil || !strings.Contains(err.Error(), "pip install 'moto[server]'") {
		t.Errorf("error %v, want the command that installs it", err)
	}
}

func TestAnEmulatorThatEndsIsAFailureWithItsOutput(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "echo no such module >&2; exit 3")
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	if _, err := start(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such module") {
		t.Errorf("error %v, want how it ended and what it said", err)
	}
}

func TestAnEmulatorEndsWithItsTest(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		url = Start(t)
		resp, err := http.Get(url + "/moto-api/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	if resp, err := http.Get(url + "/moto-api/"); err == nil {
		resp.Body.Close()
		t.Errorf("%s still answers", url)
	}
}

// script puts a moto_server that runs body into dir.
func script(t *testing.T, dir, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "moto_server"), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}
