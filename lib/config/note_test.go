package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
)

// Values that "echo" wrote end in a line end, which is part of no password and no URL.
func TestALineEndAtAReferencesEndIsLeftOut(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/url": "https://shared\n", "/crlf": "hush\r\n", "/two": "line one\nline two\n\n", "/only": "\n", "/clean": "kept "}}
	dir := write(t, map[string]string{
		"a.yaml": "kind: fake\nurl: {ssm: /url}\nheaders:\n  X-A: {ssm: /crlf}\n  X-B: {ssm: /clean}\nsigning_secrets:\n  - {ssm: /two}\n  - {ssm: /only}\n",
	})
	s := loaded(t, dir, client, nil)
	a, _ := s.Sink("a")
	if got := urlOf(t, a); got != "https://shared" {
		t.Errorf("url %q", got)
	}
	cfg := a.Sink.(*fakeSink).cfg //nolint:errcheck // urlOf asserted it
	if got, want := cfg.Headers["X-A"].Reveal()+"|"+cfg.Headers["X-B"].Reveal()+"|"+cfg.Secrets[0].Reveal()+"|"+cfg.Secrets[1].Reveal(), "hush|kept |line one\nline two|"; got != want {
		t.Errorf("values %q, want %q", got, want)
	}
	if got := texts(s.Findings()); len(got) > 0 {
		t.Errorf("faults %q, want none: it can be used", got)
	}
	checked, err := Check(t.Context(), dir, client)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.yaml:2:1: note: a: url: parameter /url ends in a line end, which is left out",
		"a.yaml:4:3: note: a: headers: parameter /crlf ends in a line end, which is left out",
		"a.yaml:7:5: note: a: signing_secrets[0]: parameter /two ends in a line end, which is left out",
		"a.yaml:8:5: note: a: signing_secrets[1]: parameter /only ends in a line end, which is left out",
	}
	if diff := cmp.Diff(want, texts(checked)); diff != "" {
		t.Errorf("notes (-want +got)\n%s", diff)
	}
	for _, f := range checked {
		if !f.Note {
			t.Errorf("%s is no note", f)
		}
	}
}

// Written in the document itself it may be meant: it stays, and is noted.
func TestALineEndAtALiteralsEndIsNoted(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": "kind: fake\nurl: |\n  https://one\nheaders:\n  X-A: \"one\\ntwo\\n\"\n  X-B: |-\n    three\n"})
	s := loaded(t, dir, nil, nil)
	a, _ := s.Sink("a")
	if got := urlOf(t, a); got != "https://one\n" {
		t.Errorf("url %q", got)
	}
	checked, err := Check(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.yaml:2:1: note: a: url: one line with a line end at its end; write |- for one without"}, texts(checked)); diff != "" {
		t.Errorf("notes (-want +got)\n%s", diff)
	}
}

// advised is a sink whose configuration is valid and strange.
type advised struct{ fakeSink }

func (*advised) Advice() []*sinks.ConfigError {
	return []*sinks.ConfigError{{Key: "size", Msg: "is strange"}, {Msg: "hunter2hunter2 is strange"}}
}

func TestASinksAdviceIsANote(t *testing.T) {
	sinks.RegisterFactory("advised", func(string, map[string]any) (sinks.Sink, error) { return &advised{}, nil })
	sinks.RegisterFactory("refused", func(string, map[string]any) (sinks.Sink, error) { return &advised{}, errors.New("no") })
	dir := write(t, map[string]string{"a.yaml": "kind: advised\nsize: 3\nurl: hunter2hunter2\n", "b.yaml": "kind: refused\nsize: 3\n"})
	s := loaded(t, dir, nil, nil)
	if a, _ := s.Sink("a"); a.Err != nil {
		t.Errorf("the sink cannot be used: %v", a.Err)
	}
	checked, err := Check(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"b.yaml:1:1: b: no",
		"a.yaml:2:1: note: a: size: is strange",
		"a.yaml:1:1: note: a: [redacted] is strange",
	}
	if diff := cmp.Diff(want, texts(checked)); diff != "" {
		t.Errorf("findings, faults first (-want +got)\n%s", diff)
	}
	if strings.Contains(strings.Join(texts(checked), ""), "hunter2") {
		t.Error("a configured value is shown")
	}
}
