package config

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

func TestReferencesAreResolvedInBatches(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/shared/url": "https://shared", "/shared/one": "first"}}
	files := map[string]string{
		"a.yaml": "kind: fake\nurl: {ssm: /shared/url}\nheaders: {X-A: {ssm: /shared/one}}\n",
		"b.yaml": "kind: fake\nurl:\n  ssm: /shared/url:3\nsigning_secrets:\n  - {ssm: /shared/one}\n",
	}
	for i := range 10 {
		name := fmt.Sprintf("/secret/%d", i)
		client.params[name] = fmt.Sprint("value ", i)
		files[fmt.Sprintf("c%d.yaml", i)] = "kind: fake\nurl: {ssm: " + name + "}\n"
	}
	s := loaded(t, write(t, files), client, nil)
	if got := texts(s.Findings()); len(got) > 0 {
		t.Fatalf("findings %q", got)
	}
	a, _ := s.Sink("a")
	b, _ := s.Sink("b")
	if got, want := urlOf(t, a), "https://shared"; got != want {
		t.Errorf("url %q, want %q", got, want)
	}
	if got, want := urlOf(t, b), "https://shared@3"; got != want {
		t.Errorf("url %q, want the labelled version %q", got, want)
	}
	if got := b.Sink.(*fakeSink).cfg.Secrets[0].Reveal(); got != "first" { //nolint:errcheck // urlOf asserted it
		t.Errorf("secret %q", got)
	}
	if diff := cmp.Diff([]string{"batch of 10", "batch of 3"}, client.calls); diff != "" {
		t.Errorf("calls, each parameter once (-want +got)\n%s", diff)
	}
}

func TestAReferenceThatCannotBeReadSpoilsItsSinkOnly(t *testing.T) {
	client := &fakeSSM{
		params: map[string]string{"/good": "https://good", "/denied": "x", "/unusable": "hunter2"},
		denied: map[string]bool{"/denied": true},
	}
	s := loaded(t, write(t, map[string]string{
		"denied.yaml":   "kind: fake\nurl: {ssm: /denied}\n",
		"good.yaml":     "kind: fake\nurl: {ssm: /good}\n",
		"missing.yaml":  "kind: fake\nurl: {ssm: /missing}\n",
		"unusable.yaml": "kind: rude\nhow: quotes\nsecret: {ssm: /unusable}\n",
	}), client, nil)
	want := []string{
		"denied.yaml:2:1: denied: url: parameter /denied: cannot be read: AccessDeniedException",
		"missing.yaml:2:1: missing: url: parameter /missing: does not exist",
		`unusable.yaml:1:1: unusable: cannot use "[redacted]" ([redacted])`,
	}
	if diff := cmp.Diff(want, texts(s.Findings())); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
	if good, _ := s.Sink("good"); urlOf(t, good) != "https://good" {
		t.Errorf("url %q", urlOf(t, good))
	}
}

func TestWhenSSMIsAwayThereIsNoNewConfiguration(t *testing.T) {
	files := write(t, map[string]string{"a.yaml": "kind: fake\nurl: {ssm: /a}\n", "b.yaml": "kind: fake\nurl: x\n"})
	for name, fail := range map[string]error{
		"throttled": apiError("ThrottlingException", smithy.FaultClient),
		"broken":    apiError("InternalServerError", smithy.FaultServer),
		"outage":    errors.New("connection refused"),
		"timeout":   context.DeadlineExceeded,
	} {
		client := &fakeSSM{fail: fail, params: map[string]string{"/a": "x"}}
		if _, err := load(t.Context(), files, client, nil); !errors.Is(err, fail) {
			t.Errorf("%s: error %v, want %v", name, err, fail)
		}
		if got := client.reads(); got != 1 {
			t.Errorf("%s: %d calls, want no more than 1", name, got)
		}
	}
}

func TestUnchangedSinksAreTakenOver(t *testing.T) {
	client := &fakeSSM{params: map[string]string{
		"/sinks/same":  "kind: fake\nurl: {ssm: /url}",
		"/sinks/retry": "kind: fake\nurl: x\nretry: {max_attempts: 2}",
		"/sinks/url":   "kind: fake\nurl: x",
		"/sinks/gone":  "kind: fake\nurl: x",
		"/url":         "https://one",
	}}
	source := parsed(t, "ssm:/sinks/*")
	before := loaded(t, source, client, nil)

	client.params["/sinks/same"] = "# a comment\nurl:   {ssm: /url}\nkind: fake"
	client.params["/sinks/retry"] = "kind: fake\nurl: x\nretry: {max_attempts: 3}"
	client.params["/sinks/url"] = "kind: fake\nurl: y"
	client.params["/sinks/new"] = "kind: fake\nurl: x"
	delete(client.params, "/sinks/gone")
	after := loaded(t, source, client, before)

	if diff := cmp.Diff([]string{"new", "retry", "same", "url"}, after.Names()); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}
	if before.sinks["same"] != after.sinks["same"] {
		t.Error("a sink that did not change is another one")
	}
	if before.sinks["retry"].Sink != after.sinks["retry"].Sink || after.sinks["retry"].Retry.MaxAttempts != 3 {
		t.Error("a change of retry replaced the instance, or was not taken")
	}
	if got := urlOf(t, after.sinks["url"]); got != "y" || urlOf(t, before.sinks["url"]) != "x" {
		t.Errorf("url %q, want y, and the old snapshot as it was", got)
	}

	client.params["/url"] = "https://two"
	if last := loaded(t, source, client, after); urlOf(t, last.sinks["same"]) != "https://two" {
		t.Errorf("url %q, want what the reference holds now", urlOf(t, last.sinks["same"]))
	}
}

func TestABadEditSpoilsItsSinkAndTheNextGoodOneCuresIt(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/sinks/a": "kind: fake\nurl: x", "/sinks/b": "kind: fake\nurl: x"}}
	source := parsed(t, "ssm:/sinks/*")
	good := loaded(t, source, client, nil)
	client.params["/sinks/a"] = "kind: fake\nurll: x"
	bad := loaded(t, source, client, good)
	if bad.sinks["a"].Err == nil || bad.sinks["b"] != good.sinks["b"] {
		t.Errorf("after the edit: %v, %v", bad.sinks["a"].Err, bad.sinks["b"])
	}
	client.params["/sinks/a"] = "kind: fake\nurl: x"
	if cured := loaded(t, source, client, bad); cured.sinks["a"].Err != nil {
		t.Errorf("after the cure: %v", cured.sinks["a"].Err)
	}
}

func TestNonsenseDoesNotReplaceAConfiguration(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/sinks/a": "kind: fake\nurl: x", "/doc": "sinks: {a: {kind: fake, url: x}}"}}
	for _, c := range []struct{ spec, name string }{{"ssm:/sinks/*", "/sinks/a"}, {"ssm:/doc", "/doc"}} {
		source := parsed(t, c.spec)
		good := loaded(t, source, client, nil)
		was := client.params[c.name]
		client.params[c.name] = "<html>503</html>"
		if s, err := load(t.Context(), source, client, good); err == nil {
			t.Errorf("%s: loaded %q, want an error", c.spec, s.Names())
		}
		client.params[c.name] = was
	}
}

func TestADeniedReferenceKeepsTheLastGoodSink(t *testing.T) {
	client := &fakeSSM{params: map[string]string{"/sinks/a": "kind: fake\nurl: {ssm: /url}", "/sinks/b": "kind: fake\nurl: x", "/url": "https://a"}}
	source := parsed(t, "ssm:/sinks/*")
	before := loaded(t, source, client, nil)
	client.denied = map[string]bool{"/url": true}
	client.params["/sinks/b"] = "kind: fake\nurl: y"
	after := loaded(t, source, client, before)
	if after.sinks["a"] != before.sinks["a"] || urlOf(t, after.sinks["b"]) != "y" {
		t.Errorf("a %v, b %v: want a kept and b changed", after.sinks["a"], after.sinks["b"])
	}
	if got := texts(after.Findings()); len(got) != 1 || !strings.Contains(got[0], "AccessDeniedException") {
		t.Errorf("findings %q, want the denial", got)
	}
}
