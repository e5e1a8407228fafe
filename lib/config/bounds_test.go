package config

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// huge is a valid document of some 10 MB, whose nodes take 80 times that.
func huge() string { return "kind: fake\nurl: x\nsize: [" + strings.Repeat("1,", 5_000_000) + "1]\n" }

// allocated is what f allocates, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Memory is bounded by the function's size, so a document is bounded before it is parsed:
// as a file, as a parameter, and as the one document of all sinks.
func TestADocumentThatIsTooLargeIsNotParsed(t *testing.T) {
	const want = "is 10000028 bytes long; the most is 1048576 (1 MiB)"
	text := huge()
	folder := write(t, map[string]string{"large.yaml": text, "good.yaml": oneSink})
	client := &fakeSSM{params: map[string]string{"/sinks/large": text, "/sinks/good": oneSink, "/one": text}}
	for _, source := range []Source{folder, parsed(t, "ssm:/sinks/*")} {
		var s *Snapshot
		if n := allocated(func() { s = loaded(t, source, client, nil) }); n > 64<<20 {
			t.Errorf("%s: %d MB allocated", source, n>>20)
		}
		if good, _ := s.Sink("good"); good == nil || good.Err != nil {
			t.Errorf("%s: its neighbour: %+v", source, good)
		}
		if large, _ := s.Sink("large"); large == nil || large.Err == nil || !strings.Contains(large.Err.Error(), want) {
			t.Errorf("%s: %+v, want it to say %q", source, large, want)
		}
	}
	file := t.TempDir() + "/all.yaml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []Source{parsed(t, "file:"+file), parsed(t, "ssm:/one")} {
		var err error
		if n := allocated(func() { _, err = load(t.Context(), source, client, nil) }); n > 64<<20 {
			t.Errorf("%s: %d MB allocated", source, n>>20)
		}
		if _, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", source, err, want)
		}
	}
}

// All documents together are bounded too: each may be within its own bound.
func TestASourceThatIsTooLargeAsAWholeIsRefused(t *testing.T) {
	files, params := map[string]string{}, map[string]string{}
	for i := range 9 {
		text := oneSink + "\n# " + strings.Repeat("x", 1<<19)
		files[fmt.Sprintf("s%d.yaml", i)], params[fmt.Sprintf("/sinks/s%d", i)] = text, text
	}
	for _, source := range []Source{write(t, files), parsed(t, "ssm:/sinks/*")} {
		_, err := load(t.Context(), source, &fakeSSM{params: params}, nil)
		if err == nil || !strings.Contains(err.Error(), "the documents are more than 4194304 bytes (4 MiB) together") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// A small document can stand for many sinks, or for many times the same large block.
func TestAliasesAndNamesThatMultiplyAreBounded(t *testing.T) {
	var aliases, names strings.Builder
	aliases.WriteString("sinks:\n  a: &a {kind: fake, url: x, size: [" + strings.Repeat("1,", 9_000) + "1]}\n")
	for i := range 9_000 {
		fmt.Fprintf(&aliases, "  a%d: *a\n", i)
	}
	names.WriteString("sinks:\n")
	for i := range 70_000 {
		fmt.Fprintf(&names, "  a%d: {}\n", i)
	}
	for want, text := range map[string]string{
		"too large or too deeply nested": aliases.String(),
		"70000 sinks; the most is 10000": names.String(),
	} {
		file := t.TempDir() + "/all.yaml"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		findings, err := Check(t.Context(), parsed(t, "file:"+file), nil)
		if err != nil || !strings.Contains(strings.Join(texts(findings), "\n"), want) {
			t.Errorf("%d findings, %v; want %q", len(findings), err, want)
		}
	}
}
