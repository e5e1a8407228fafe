package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSource(t *testing.T) {
	for spec, want := range map[string]string{
		"file:config/sinks":          "",
		"file:sinks.yaml":            "",
		"file:/etc/sinks":            "",
		"ssm:/backstop/prod/sinks":   "",
		"ssm:/backstop/prod/sinks/*": "",
		"":                           `source "": want file:PATH, ssm:/PATH/* or ssm:/PATH`,
		"config/sinks":               `source "config/sinks": want file:PATH, ssm:/PATH/* or ssm:/PATH`,
		"s3:/bucket":                 `source "s3:/bucket": want file:PATH, ssm:/PATH/* or ssm:/PATH`,
		"file:":                      `source "file:": want file:PATH of a folder or a file`,
		"ssm:":                       `source "ssm:": want ssm:/path/* or ssm:/path, with full parameter names`,
		"ssm:/*":                     `source "ssm:/*": want ssm:/path/* or ssm:/path, with full parameter names`,
		"ssm:backstop/sinks":         `source "ssm:backstop/sinks": want ssm:/path/* or ssm:/path, with full parameter names`,
		"ssm:/a/*/b":                 `source "ssm:/a/*/b": want ssm:/path/* or ssm:/path, with full parameter names`,
		"ssm:/a b":                   `source "ssm:/a b": want ssm:/path/* or ssm:/path, with full parameter names`,
		"ssm:/backstop/prod/sinks/":  `source "ssm:/backstop/prod/sinks/": write ssm:/backstop/prod/sinks/* for every parameter under a path`,
	} {
		source, err := ParseSource(spec)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("ParseSource(%q) says %q, want %q", spec, got, want)
		}
		if want == "" && (source.String() != spec || source.SSM() != strings.HasPrefix(spec, "ssm:")) {
			t.Errorf("ParseSource(%q) is %q, SSM %t", spec, source, source.SSM())
		}
	}
}

func TestASourceWithoutDocumentsIsAnErrorThatNamesIt(t *testing.T) {
	dir := t.TempDir()
	noSSM := "reading SSM parameters needs an SSM client, and there is none"
	for spec, c := range map[string]struct {
		client SSM
		want   string
	}{
		"file:" + dir:                          {nil, "file:" + dir + ": no *.yaml files in " + dir},
		"file:" + filepath.Join(dir, "absent"): {nil, "no such file or directory"},
		"ssm:/prod/sinks/*":                    {&fakeSSM{params: map[string]string{"/prod/sinks/a/b": "x", "/prod/sinks": "x"}}, "ssm:/prod/sinks/*: no parameters directly under /prod/sinks"},
		"ssm:/prod/sinks":                      {&fakeSSM{}, "ssm:/prod/sinks: ParameterNotFound"},
		"ssm:/without/client":                  {nil, "ssm:/without/client: " + noSSM},
		"ssm:/without/client/*":                {nil, "ssm:/without/client/*: " + noSSM},
		"ssm:/pages/for/ever/*":                {&fakeSSM{loop: true, params: map[string]string{"/pages/for/ever/a": "x"}}, "the same NextToken came twice"},
	} {
		_, err := Check(t.Context(), parsed(t, spec), c.client)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", spec, err, c.want)
		}
		if _, err := parsed(t, spec).Documents(t.Context(), c.client); err == nil || !strings.Contains(err.Error(), spec) {
			t.Errorf("%s: error %v, want the source named", spec, err)
		}
	}
}

func TestAnUnreadableFileIsAnError(t *testing.T) {
	source := write(t, map[string]string{"a.yaml": "kind: fake\nurl: x"})
	if err := os.Mkdir(filepath.Join(source.path, "b.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), source, nil); err == nil || !strings.Contains(err.Error(), "b.yaml") {
		t.Errorf("error %v, want it to name b.yaml", err)
	}
}

func TestParametersArePagedAndEmptyPagesFollowed(t *testing.T) {
	client := &fakeSSM{emptyPages: 2, params: map[string]string{"/prod/sinks/a/below": "x"}}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		client.params["/prod/sinks/"+name] = "kind: fake\nurl: https://" + name
	}
	s := loaded(t, parsed(t, "ssm:/prod/sinks/*"), client, nil)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, s.Names()); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}
	if c, _ := s.Sink("c"); urlOf(t, c) != "https://c" {
		t.Errorf("url %q", urlOf(t, c))
	}
	if got := client.reads(); got != 5 {
		t.Errorf("%d pages read, want 5", got)
	}
}

func TestOneParameterHoldsADocumentOfSeveralSinks(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/prod/sinks": "sinks:\n  a: {kind: fake, url: x}\n  b: {kind: fake, urll: x}\n"}}
	s := loaded(t, parsed(t, "ssm:/prod/sinks"), client, nil)
	want := []string{
		`ssm:/prod/sinks:3:19: b: urll: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "url"?`,
		`ssm:/prod/sinks:3:6: b: url: required`,
	}
	var got []string
	for _, f := range s.Findings() {
		got = append(got, f.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
}

func TestNearestSuggestsMisspellingsOnly(t *testing.T) {
	keys := []string{"max_attempts", "url", "headers", "kind"}
	for word, want := range map[string]string{
		"max_attemps": "max_attempts", "max_atempst": "max_attempts", "maxattempts": "max_attempts", "ulr": "url", "urll": "url",
		"header": "headers", "haeders": "headers", "knid": "kind", "kin": "kind", "x": "", "": "", "attempts": "", "colour": "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
