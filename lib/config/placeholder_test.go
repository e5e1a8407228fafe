package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
)

func TestPlaceholdersAreFound(t *testing.T) {
	for _, value := range []string{
		"replace-me", "REPLACE_ME", "123456:replace-me", "re_replace_me", "Bearer replace me", "https://hooks.slack.com/services/REPLACE/WITH/YOURS",
		"REPLACE-WITH-A-PASSWORD", "replaceme0replaceme0replaceme0", "replace this", "whsec_cmVwbGFjZSB0aGlzIGV4YW1wbGUgc2VjcmV0",
		"cmVwbGFjZSB0aGlzIGV4YW1wbGUgc2VjcmV0", "cmVwbGFjZS1tZQ==", "replaced replace-me",
	} {
		if !isPlaceholder(value) {
			t.Errorf("%q is none", value)
		}
	}
	for _, value := range []string{
		"", "replace", "replacement", "irreplaceable", "replace-meter", "replace it", "s3cr3t", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_",
	} {
		if isPlaceholder(value) {
			t.Errorf("%q is one", value)
		}
	}
	for _, value := range []string{
		"https://example.org", "https://hooks.Example.COM/a/b", "smtp.example.net:587", "News <news@example.org>", "*.example.org", "a@b.example",
		"http://receiver.example/x", "https://user:pw@example.com", "see https://example.com, please",
	} {
		if !namesExample(value) {
			t.Errorf("%q names no example's host", value)
		}
	}
	for _, value := range []string{
		"https://example.org.acme.test", "https://myexample.org", "https://acme.test/example.orga", "example", "an.examples", "https://example.zulipchat.com",
		"https://example.communications.test",
	} {
		if namesExample(value) {
			t.Errorf("%q names an example's host", value)
		}
	}
}

// A placeholder is a note, at its key, of any kind; a reference's value is looked at too.
func TestAPlaceholderIsANoteAtItsPlace(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/secret": "Replace-Me-Later", "/real": "hunter2hunter2"}}
	dir := write(t, map[string]string{
		"a.yaml": "kind: fake\nurl: https://hooks.example.org/replace-me\nsigning_secrets:\n  - {ssm: /real}\n  - {ssm: /secret}\n" +
			"headers:\n  X-A: replace-me\n  X-B: fine\n",
		"b.yaml": "kind: fake\nurl: https://acme.test\nformat: xml\nheaders: {X-A: \"Bearer replace-me\"}\n",
	})
	checked, err := Check(t.Context(), dir, client)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"b.yaml:3:1: b: format: want raw",
		"a.yaml:2:1: note: a: url: a placeholder: put your own value here",
		"a.yaml:5:5: note: a: signing_secrets[1]: a placeholder: put your own value here",
		"a.yaml:7:3: note: a: headers: a placeholder: put your own value here",
		"b.yaml:4:11: note: b: headers: a placeholder: put your own value here",
	}
	if diff := cmp.Diff(want, texts(checked)); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
	for _, f := range checked {
		if f.Placeholder != f.Note {
			t.Errorf("%s: placeholder: %t", f, f.Placeholder)
		}
	}
	if strings.Contains(strings.Join(texts(checked), ""), "eplace-") {
		t.Error("a value is shown")
	}
	s := loaded(t, dir, client, nil)
	if a, _ := s.Sink("a"); a.Err != nil || len(s.Findings()) != 1 {
		t.Errorf("a placeholder is a fault: %v, %v", a.Err, s.Findings())
	}
}

// What a document of kind http says for people may hold examples; what it sends may not.
func TestProseMayHoldExamples(t *testing.T) {
	sinks.RegisterFactory("prosaic", func(string, map[string]any) (sinks.Sink, error) { return &advised{}, nil })
	dir := write(t, map[string]string{"a.yaml": "kind: prosaic\nabout: replace-me\nsource: {page: https://example.org}\nnotes: [replace-me]\n" +
		"parameters:\n  token: {about: replace-me, example: replace-me, pattern: replace-me, default: replace-me}\n" +
		"recipient:\n  to: {example: a@example.org, default: a@example.org}\nbody: {about: replace-me}\n"})
	checked, err := Check(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for _, f := range checked {
		if f.Placeholder {
			places = append(places, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Key))
		}
	}
	want := []string{"6:72 parameters", "8:32 recipient", "9:8 body"}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("placeholders (-want +got)\n%s", diff)
	}
}

// samples is a sink that says that a value is a sample's.
type samples struct{ fakeSink }

func (*samples) Advice() []*sinks.ConfigError {
	return []*sinks.ConfigError{{Key: "size", Msg: "is an example", Placeholder: true}, {Key: "url", Msg: "is an example", Placeholder: true}}
}

// A sink's own advice about one counts as well, and a key is noted once.
func TestASinkMayKnowItsPlaceholders(t *testing.T) {
	sinks.RegisterFactory("samples", func(string, map[string]any) (sinks.Sink, error) { return &samples{}, nil })
	checked, err := Check(t.Context(), write(t, map[string]string{"a.yaml": "kind: samples\nsize: 3\nurl: replace-me\n"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a.yaml:3:1: note: a: url: a placeholder: put your own value here", "a.yaml:2:1: note: a: size: is an example"}
	if diff := cmp.Diff(want, texts(checked)); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
	for _, f := range checked {
		if !f.Placeholder {
			t.Errorf("%s is no placeholder", f)
		}
	}
}
