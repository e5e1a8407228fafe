package local

import (
	"path/filepath"
	"slices"
	"testing"
)

// A result of a test that runs a function is repeated only while nothing changes that the
// function is made of.
func TestTheSourcesOfAFunctionAreAllThatItIsMadeOf(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := sources(t.Context(), root, "-tags", "lambda.norpc", "./functions/send")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go.mod", "functions/send/main.go", "functions/send/handler/sqs.go", "bundle/bundle.go", "lib/dlq/push.lua"} {
		if !slices.Contains(got, filepath.Join(root, want)) {
			t.Errorf("%s is missing in\n%q", want, got)
		}
	}
	if other := filepath.Join(root, "functions/replay/main.go"); slices.Contains(got, other) {
		t.Errorf("%s is no part of it", other)
	}
}
