package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

func TestAWholeBlockIsReadAndAbsentKeysHaveTheirDefaults(t *testing.T) {
	s := loaded(t, write(t, map[string]string{
		"full.yaml": `
kind: fake
url: https://example.org/in
headers: {X-Token: abc, "404": "yes"}
retry:
  max_attempts: 3
  base_backoff: 250ms
  max_backoff: 2s
  jitter_fraction: 0
  attempt_timeout: 1m30s
  max_wait: 5s
on_ambiguous: park
fifo: hold
max_age: 36h
retention: 30d
replay:
  on_success: keep
  max_attempts: 2
  max_replays: 4
  base_delay: 30s
  max_delay: 1h
  rate: 0.5
  concurrency: 7
breaker:
  failure_percent: 30
  least: 9
  window: 10s
  probe_every: 2m
max_hold: 1h
rate: {per_second: 0.5, burst: 3}
concurrency: 4
`,
		"off.yaml":     "kind: fake\nurl: x\nbreaker: off\n",
		"quoted.yaml":  "kind: fake\nurl: x\nbreaker: \"off\"\n",
		"false.yaml":   "kind: fake\nurl: x\nbreaker: false\nrate: {per_second: 2}\n",
		"least.yml":    "kind: fake\nurl: x",
		"json.yaml":    `{"kind": "fake", "url": "x", "size": 3, "strict": true}`,
		"README.md":    "not a sink",
		".hidden.yaml": "not a sink",
	}), nil, nil)
	if got := texts(s.Findings()); len(got) != 0 {
		t.Fatalf("findings %q, want none", got)
	}
	if got, want := s.Names(), []string{"false", "full", "json", "least", "off", "quoted"}; !cmp.Equal(got, want) {
		t.Fatalf("names %q, want %q", got, want)
	}

	full, _ := s.Sink("full")
	full.Retry.Rand = nil
	wantRetry := retry.Config{
		MaxAttempts: 3, BaseBackoff: 250 * time.Millisecond, MaxBackoff: 2 * time.Second, NoJitter: true,
		AttemptTimeout: 90 * time.Second, MaxWait: 5 * time.Second, OnAmbiguous: retry.AmbiguousPark,
	}
	if diff := cmp.Diff(wantRetry, full.Retry); diff != "" {
		t.Errorf("retry (-want +got)\n%s", diff)
	}
	wantReplay := policy.Policy{
		OnSuccess: policy.OnSuccessKeep, Attempts: 2, MaxReplays: 4, BaseDelay: 30 * time.Second, MaxDelay: time.Hour, Rate: 0.5, Concurrency: 7,
	}
	if diff := cmp.Diff(wantReplay, full.Replay); diff != "" {
		t.Errorf("replay (-want +got)\n%s", diff)
	}
	wantFlow := flow.Policy{
		Breaker: flow.Breaker{FailurePercent: 30, Least: 9, Window: 10 * time.Second, ProbeEvery: 2 * time.Minute},
		MaxHold: time.Hour, Rate: flow.Rate{PerSecond: 0.5, Burst: 3}, Concurrency: 4,
	}
	if diff := cmp.Diff(wantFlow, full.Flow); diff != "" {
		t.Errorf("flow (-want +got)\n%s", diff)
	}
	for _, name := range []string{"off", "quoted", "false"} {
		if off, _ := s.Sink(name); !off.Flow.Breaker.Off {
			t.Errorf("%s: the breaker is on", name)
		}
	}
	if paced, _ := s.Sink("false"); paced.Flow.Rate != (flow.Rate{PerSecond: 2, Burst: 1}) {
		t.Errorf("rate %+v", paced.Flow.Rate)
	}
	if full.FIFO != FIFOHold {
		t.Errorf("fifo %q, want hold", full.FIFO)
	}
	if full.MaxAge != 36*time.Hour {
		t.Errorf("max_age %s, want 36h", full.MaxAge)
	}
	if full.Retention != 720*time.Hour {
		t.Errorf("retention %s, want 720h", full.Retention)
	}
	if got := urlOf(t, full); got != "https://example.org/in" {
		t.Errorf("url %q", got)
	}

	least, _ := s.Sink("least")
	if diff := cmp.Diff(flow.Policy{}.Normalize(), least.Flow); diff != "" {
		t.Errorf("default flow (-want +got)\n%s", diff)
	}
	if least.FIFO != FIFOContinue {
		t.Errorf("default fifo %q, want continue", least.FIFO)
	}
	if least.MaxAge != 0 {
		t.Errorf("default max_age %s, want none", least.MaxAge)
	}
	if least.Retention != 0 {
		t.Errorf("default retention %s, want none", least.Retention)
	}
	if least.Kind != "fake" || least.Sink.Name() != "least" {
		t.Errorf("kind %q, name %q", least.Kind, least.Sink.Name())
	}
	wantReplay = policy.Policy{}.Normalize()
	wantReplay.Concurrency = 0 // nobody bounds all replayers together
	if diff := cmp.Diff(wantReplay, least.Replay); diff != "" {
		t.Errorf("default replay (-want +got)\n%s", diff)
	}
	if least.Retry.MaxAttempts != retry.DefaultMaxAttempts || least.Retry.JitterFraction != retry.DefaultJitterFraction || least.Retry.OnAmbiguous != "" {
		t.Errorf("default retry %+v", least.Retry)
	}
}

// Every fault is told with its position; all faults of a block are told together.
func TestFaultsOfABlock(t *testing.T) {
	const ok = "kind: fake\nurl: x\n" // two lines
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":                     {"", []string{"s.yaml: s: is empty"}},
		"only a comment":            {"# later\n", []string{"s.yaml: s: is empty"}},
		"a list":                    {"- kind: fake\n", []string{"s.yaml:1:1: s: want a mapping of keys to values"}},
		"a text":                    {"\nkind=fake\n", []string{"s.yaml:2:1: s: want a mapping of keys to values"}},
		"two documents":             {ok + "---\n" + ok, []string{"s.yaml: s: want one YAML document, found more (---)"}},
		"no space after colon":      {"kind: fake\nurl:x\n", []string{"s.yaml:2: s: not readable as YAML: could not find expected ':'"}},
		"open bracket":              {"kind: fake\nsigning_secrets: [a, b\nurl: x\n", []string{"s.yaml:2: s: not readable as YAML: did not find expected ',' or ']'"}},
		"bad indentation":           {ok + "- b\n", []string{"s.yaml:3: s: not readable as YAML: did not find expected key"}},
		"tab":                       {"kind: fake\n\turl: x\n", []string{"s.yaml:2:1: s: a tab: YAML is indented with spaces"}},
		"tab after a text with one": {"kind: fake\nurl: |\n  a\n  \tb\nheaders:\n\tX-A: b\n", []string{"s.yaml:6:1: s: a tab: YAML is indented with spaces"}},
		"tab after empty lines":     {"kind: fake\nretry:\n  max_attempts: 5\n\n\n\tbase_backoff: 1s\n", []string{"s.yaml:6:1: s: a tab: YAML is indented with spaces"}},
		"tab within a text":         {"kind: fake\nurl: |\n  a\n\tb\n", []string{"s.yaml:4:1: s: a tab: YAML is indented with spaces"}},
		"tab alone":                 {"kind: fake\nretry:\n\t\n  max_attempts: 5\n", []string{"s.yaml:3:1: s: a tab: YAML is indented with spaces"}},
		"tab first of all":          {"\tkind: fake\n", []string{"s.yaml:1:1: s: a tab: YAML is indented with spaces"}},
		"a tab that may be there":   {"kind: fake\nurl: |\n  a\n  \tb\nsize: @1\n", []string{"s.yaml:5: s: not readable as YAML: found character that cannot start any token"}},
		"tab after spaces":          {"kind: fake\nretry:\n  max_attempts:\t5\n \tbase_backoff: 1s\n", []string{"s.yaml:4:2: s: a tab: YAML is indented with spaces"}},
		"not UTF-8":                 {"kind: \xff\xfe\n", []string{"s.yaml:1: s: not readable as YAML: invalid leading UTF-8 octet"}},
		"password with a star":      {"kind: fake\nurl: *hunter2\n", []string{"s.yaml: s: not readable as YAML: an alias names an unknown anchor; a text that begins with * must be quoted"}},
		"misspelt key":              {ok + "sise: 3\n", []string{`s.yaml:3:1: s: sise: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "size"?`}},
		"misspelt common key":       {ok + "rety: {}\n", []string{`s.yaml:3:1: s: rety: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "retry"?`}},
		"unlike any key":            {ok + "colour: red\n", []string{`s.yaml:3:1: s: colour: unknown key; known: format, headers, signing_secrets, size, strict, url`}},
		"misspelt key below":        {ok + "retry:\n  max_attemps: 3\n", []string{`s.yaml:4:3: s: retry.max_attemps: unknown key; known: attempt_timeout, base_backoff, jitter_fraction, max_attempts, max_backoff, max_wait; did you mean "max_attempts"?`}},
		"duplicate key":             {ok + "size: 1\nurl: y\n", []string{"s.yaml:4:1: s: url: duplicate key, first on line 2"}},
		"duplicate key below":       {ok + "headers:\n  A: 1x\n  A: 2x\n", []string{"s.yaml:5:3: s: headers: duplicate key, first on line 4"}},
		"a value as a key":          {ok + "{https://x/S3CRET}: \n", []string{"s.yaml:3:1: s: want a plain text as a key"}},
		"a key like a value":        {"{kind: fake, url: x, url:https://x/S3CRET: y}", []string{"s.yaml:1:22: s: [unreadable key]: unknown key; known: format, headers, signing_secrets, size, strict, url"}},
		"no value":                  {"kind: fake\nurl:\n", []string{"s.yaml:2:1: s: url: has no value; give it one or remove the key"}},
		"no kind":                   {"url: x\n", []string{"s.yaml:1:1: s: kind: is missing; known kinds: fake, rude, webhook"}},
		"misspelt kind key":         {"knd: fake\n", []string{`s.yaml:1:1: s: knd: unknown key; did you mean "kind"?`}},
		"kind without value":        {"kind: \n", []string{"s.yaml:1:1: s: kind: has no value; give it one or remove the key"}},
		"kind of a wrong type":      {"kind: [fake]\n", []string{"s.yaml:1:1: s: kind: want a text; known kinds: fake, rude, webhook"}},
		"misspelt kind":             {"kind: fakr\n", []string{`s.yaml:1:1: s: kind: unknown kind; known kinds: fake, rude, webhook; did you mean "fake"?`}},
		"unknown kind":              {"kind: telegraph\n", []string{`s.yaml:1:1: s: kind: unknown kind; known kinds: fake, rude, webhook`}},
		"several sinks":             {"sinks:\n  a: {kind: fake}\n", []string{"s.yaml:1:1: s: sinks: a document of several sinks must be the source itself, not one of its parts"}},
		"number for a text":         {"kind: fake\nurl: 12345\n", []string{"s.yaml:2:1: s: url: want…"}},
		"text for a number":         {ok + "size: big\n", []string{"s.yaml:3:1: s: size: want a whole number, got a text"}},
		"mapping for a text":        {"kind: fake\nurl: {a: b}\n", []string{"s.yaml:2:1: s: url: want…"}},
		"text for a mapping":        {ok + "retry: often\n", []string{"s.yaml:3:1: s: retry: want a mapping of keys to values"}},
		"too big":                   {ok + "size: 99999999999999999999\n", []string{"s.yaml:3:1: s: size: want a whole number in range"}},
		"not a number":              {ok + "size: .nan\n", []string{"s.yaml:3:1: s: size: not a float in range; a text that looks like one must be quoted"}},
		"YAML tag":                  {ok + "size: !secret 1\nheaders: !x {}\n", []string{"s.yaml:3:1: s: size: YAML tags are not supported", "s.yaml:4:1: s: headers: YAML tags are not supported"}},
		"merge key":                 {ok + "headers: {<<: {a: b}}\n", []string{"s.yaml:3:11: s: headers: merge keys (<<) are not supported"}},
		"bare duration":             {ok + "retry: {base_backoff: 5}\n", []string{"s.yaml:3:9: s: retry.base_backoff: want a duration with its unit, such as 250ms"}},
		"bad duration":              {ok + "retry: {base_backoff: 5 seconds}\n", []string{"s.yaml:3:9: s: retry.base_backoff: want a duration such as 250ms, 30s or 6h"}},
		"no wait at all":            {ok + "retry:\n  max_wait: 0s\n", []string{"s.yaml:4:3: s: retry.max_wait: want a positive duration"}},
		"zero and negative":         {ok + "retry:\n  max_attempts: 0\n  attempt_timeout: -1s\n", []string{"s.yaml:4:3: s: retry.max_attempts: want at least 1", "s.yaml:5:3: s: retry.attempt_timeout: want a positive duration"}},
		"base above max":            {ok + "retry: {base_backoff: 2s, max_backoff: 1s}\n", []string{"s.yaml:3:9: s: retry.base_backoff: want at most max_backoff (1s), got 2s"}},
		"jitter above 1":            {ok + "retry: {jitter_fraction: 2}\n", []string{"s.yaml:3:9: s: retry.jitter_fraction: want 0 to 1, got 2"}},
		"bad fifo":                  {ok + "fifo: wait\n", []string{"s.yaml:3:1: s: fifo: want continue or hold"}},
		"fifo that is no text":      {ok + "fifo: [hold]\n", []string{"s.yaml:3:1: s: fifo: want continue or hold"}},
		"bad on_ambiguous":          {ok + "on_ambiguous: maybe\n", []string{"s.yaml:3:1: s: on_ambiguous: want resend or park"}},
		"bad replay":                {ok + "replay:\n  on_success: forget\n  max_attempts: 0\n  max_replays: -1\n  base_delay: 7h\n  max_delay: 6h\n  rate: -1\n  concurrency: 0\n", []string{"s.yaml:4:3: s: replay.on_success: want discard or keep", "s.yaml:5:3: s: replay.max_attempts: want at least 1", "s.yaml:6:3: s: replay.max_replays: want at least 1", "s.yaml:8:3: s: replay.max_delay: want at least base_delay", "s.yaml:9:3: s: replay.rate: want 0 (no limit), or 0.00001 to 1000000", "s.yaml:10:3: s: replay.concurrency: want at least 1"}},
		"bad breaker":               {ok + "breaker:\n  failure_percent: 101\n  least: 0\n  window: 999ms\n  probe_every: 25h\n", []string{"s.yaml:5:3: s: breaker.least: want at least 1, got 0", "s.yaml:4:3: s: breaker.failure_percent: want 1 to 100, got 101", "s.yaml:6:3: s: breaker.window: want 1s to 24h, got 999ms", "s.yaml:7:3: s: breaker.probe_every: want 1s to 24h, got 25h0m0s"}},
		"breaker of nothing":        {ok + "breaker:\n  failure_percent: 0\n  window: 0s\n  probe_every: 0s\n", []string{"s.yaml:4:3: s: breaker.failure_percent: want 1 to 100, got 0", "s.yaml:5:3: s: breaker.window: want 1s to 24h, got 0", "s.yaml:6:3: s: breaker.probe_every: want 1s to 24h, got 0"}},
		"negative breaker":          {ok + "breaker: {failure_percent: -1, least: -5}\n", []string{"s.yaml:3:11: s: breaker.failure_percent: want 1 to 100, got -1", "s.yaml:3:32: s: breaker.least: want at least 1, got -5"}},
		"breaker on":                {ok + "breaker: on\n", []string{"s.yaml:3:1: s: breaker: want off, or a mapping of keys to values"}},
		"breaker true":              {ok + "breaker: true\n", []string{"s.yaml:3:1: s: breaker: want off, or a mapping of keys to values"}},
		"misspelt breaker key":      {ok + "breaker:\n  percent: 3\n", []string{"s.yaml:4:3: s: breaker.percent: unknown key; known: failure_percent, least, probe_every, window"}},
		"misspelt breaker":          {ok + "braker: off\n", []string{`s.yaml:3:1: s: braker: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "breaker"?`}},
		"no rate":                   {ok + "rate: {per_second: 0}\n", []string{"s.yaml:3:8: s: rate.per_second: want more than 0 (0.00001 to 1000000), got 0"}},
		"negative rate":             {ok + "rate:\n  per_second: -1\n  burst: 0\n", []string{"s.yaml:5:3: s: rate.burst: want 1 to 1000000, got 0", "s.yaml:4:3: s: rate.per_second: want more than 0 (0.00001 to 1000000), got -1"}},
		"a burst alone":             {ok + "rate: {burst: 2}\n", []string{"s.yaml:3:1: s: rate.per_second: required"}},
		"a rate as a number":        {ok + "rate: 5\n", []string{"s.yaml:3:1: s: rate: want a mapping of keys to values"}},
		"a rate as a text":          {ok + "rate: {per_second: fast}\n", []string{"s.yaml:3:8: s: rate.per_second: want a number, got a text"}},
		"holds and shares":          {ok + "max_hold: 0s\nconcurrency: 0\n", []string{"s.yaml:3:1: s: max_hold: want more than 0, at most 24h, got 0", "s.yaml:4:1: s: concurrency: want at least 1, got 0"}},
		"longer than a day":         {ok + "max_hold: 25h\nconcurrency: -1\n", []string{"s.yaml:3:1: s: max_hold: want more than 0, at most 24h, got 25h0m0s", "s.yaml:4:1: s: concurrency: want at least 1, got -1"}},
		"a hold without a unit":     {ok + "max_hold: 60\n", []string{"s.yaml:3:1: s: max_hold: want a duration with its unit, such as 250ms"}},
		"no age at all":             {ok + "max_age: 0s\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, got 0s"}},
		"hardly any age":            {ok + "max_age: 999ms\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, got 999ms"}},
		"a negative age":            {ok + "max_age: -5m\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, got -5m0s"}},
		"older than a year":         {ok + "max_age: 8760h1s\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, got 8760h0m1s"}},
		"an age without a unit":     {ok + "max_age: 300\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, such as 90s or 24h; no unit is longer than h"}},
		"an age in days":            {ok + "max_age: 30d\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, such as 90s or 24h; no unit is longer than h"}},
		"an age of a list":          {ok + "max_age: [5m]\n", []string{"s.yaml:3:1: s: max_age: want 1s to 8760h, such as 90s or 24h; no unit is longer than h"}},
		"an age of no value":        {ok + "max_age:\n", []string{"s.yaml:3:1: s: max_age: has no value; give it one or remove the key"}},
		"kept for no time":          {ok + "retention: 0s\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d; to keep dead letters for good, leave it out"}},
		"kept for no days":          {ok + "retention: 0d\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d; to keep dead letters for good, leave it out"}},
		"hardly kept":               {ok + "retention: 59m59s\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d; to keep dead letters for good, leave it out"}},
		"kept negative days":        {ok + "retention: -30d\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d, such as 30d or 36h"}},
		"kept a negative time":      {ok + "retention: -720h\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d; to keep dead letters for good, leave it out"}},
		"kept beyond a decade":      {ok + "retention: 3651d\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d; to keep dead letters for good, leave it out"}},
		"kept for an overflow":      {ok + "retention: 99999999999999d\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d, such as 30d or 36h"}},
		"kept without a unit":       {ok + "retention: 30\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d, such as 30d or 36h"}},
		"kept days and hours":       {ok + "retention: 1d12h\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d, such as 30d or 36h"}},
		"kept for a list":           {ok + "retention: [30d]\n", []string{"s.yaml:3:1: s: retention: want 1h to 3650d, such as 30d or 36h"}},
		"kept for no value":         {ok + "retention:\n", []string{"s.yaml:3:1: s: retention: has no value; give it one or remove the key"}},
		"misspelt retention":        {ok + "retension: 5d\n", []string{`s.yaml:3:1: s: retension: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "retention"?`}},
		"misspelt age":              {ok + "maxage: 5m\n", []string{`s.yaml:3:1: s: maxage: unknown key; known: format, headers, signing_secrets, size, strict, url; did you mean "max_age"?`}},
		"fault below a key":         {ok + "headers:\n  X-A: b\n  Host: elsewhere\n", []string{"s.yaml:5:3: s: headers.Host: not allowed"}},
		"fault in a list":           {ok + "signing_secrets:\n  - long enough\n  - short\n", []string{"s.yaml:5:5: s: signing_secrets[1]: too short"}},
		"missing key":               {"\n# hello\nkind: fake\n", []string{"s.yaml:3:1: s: url: required"}},
		"everything at once":        {"kind: fake\nurl:\nsize: x\nretry: {max_attempts: x}\nformat: xml\n", []string{"s.yaml:2:1: s: url: has no value; give it one or remove the key", "s.yaml:4:9: s: retry.max_attempts: want a whole number, got a text", "s.yaml:3:1: s: size: want a whole number, got a text", "s.yaml:5:1: s: format: want raw"}},
		"reference to nowhere":      {"kind: fake\nurl: {ssm: no-slash}\nformat: {ssm: [a]}\n", []string{"s.yaml:2:1: s: url: want {ssm: /path/of/a/parameter}", "s.yaml:3:1: s: format: want {ssm: /path/of/a/parameter}"}},
		"reference, no client":      {"kind: fake\nurl: {ssm: /a/b}\n", []string{"s.yaml:2:1: s: url: parameter /a/b: reading SSM parameters needs an SSM client, and there is none"}},
		"factory quotes":            {"kind: rude\nhow: quotes\nsecret: \"hunter2 \\\"x\\\"\"\n", []string{`s.yaml:1:1: s: cannot use "[redacted]" ([redacted])`}},
		"factory panics":            {"kind: rude\nhow: panics\nsecret: hunter2 hunter2\n", []string{"s.yaml:1:1: s: the factory of kind rude panicked (string)"}},
		"factory makes nothing":     {"kind: rude\n", []string{"s.yaml:1:1: s: the factory returned no sink"}},
		"aliases multiply":          {ok + "size: &a [1,1,1,1,1,1,1,1,1,1]\nformat: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nstrict: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nheaders: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n", []string{"s.yaml:6:14: s: headers[0][0][0][0]: too large or too deeply nested"}},
		"an alias of itself":        {ok + "headers: &a {b: *a}\n", []string{"too large or too deeply nested"}},
	} {
		t.Run(name, func(t *testing.T) {
			source := write(t, map[string]string{"s.yaml": c.text, "other.yaml": "kind: fake\nurl: x\n"})
			s := loaded(t, source, nil, nil)
			got := texts(s.Findings())
			switch name {
			case "aliases multiply", "an alias of itself":
				if len(got) == 0 || !strings.Contains(got[0], "too large or too deeply nested") {
					t.Fatalf("findings %q, want one about the size", got)
				}
			default:
				for i, want := range c.want { // the words for Go types are not ours
					if start, ok := strings.CutSuffix(want, "…"); ok && i < len(got) && strings.HasPrefix(got[i], start) {
						got[i] = want
					}
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("findings (-want +got)\n%s", diff)
				}
			}
			if all := strings.Join(got, " "); strings.Contains(all, "hunter2") || strings.Contains(all, "S3CRET") {
				t.Errorf("findings show a value: %s", all)
			}

			bad, ok := s.Sink("s")
			if !ok || bad.Sink != nil || fault.CodeOf(bad.Err) != fault.CodeSinkConfigInvalid {
				t.Errorf("the faulty sink: %v, want it kept with SINK_CONFIG_INVALID", bad)
			}
			if invalid, ok := errors.AsType[*InvalidError](bad.Err); !ok || !cmp.Equal(invalid.Findings, s.Findings()) {
				t.Errorf("the sink's error is %v, want its findings", bad.Err)
			}
			if other, _ := s.Sink("other"); other.Err != nil {
				t.Errorf("the other sink: %v, want it untouched", other.Err)
			}
			findings, err := Check(t.Context(), source, nil)
			if err != nil || !cmp.Equal(findings, s.Findings()) {
				t.Errorf("Check returned %v, %v", findings, err)
			}
		})
	}
}

func TestAliasesStandForTheirAnchor(t *testing.T) {
	source := write(t, map[string]string{"all.yaml": `
sinks:
  a: {kind: fake, url: a, retry: &r {max_attempts: 2}}
  b: {kind: fake, url: b, retry: *r}
`})
	source.path += "/all.yaml"
	s := loaded(t, source, nil, nil)
	if b, _ := s.Sink("b"); b.Err != nil || b.Retry.MaxAttempts != 2 {
		t.Errorf("retry %+v, error %v", b.Retry, b.Err)
	}
}

func TestADocumentOfSeveralSinks(t *testing.T) {
	const good = "  good: {kind: fake, url: x}\n"
	for name, c := range map[string]struct {
		text string
		want []string // findings
		left []string // names
		fail bool     // no configuration at all
	}{
		"good":               {text: "sinks:\n" + good, left: []string{"good"}},
		"empty":              {text: "", want: []string{"all.yaml: is empty"}, fail: true},
		"not YAML":           {text: "sinks: {\n", want: []string{"all.yaml:2: not readable as YAML: did not find expected node content"}, fail: true},
		"no sinks":           {text: "{}\n", want: []string{`all.yaml: no sinks: want a mapping "sinks" of names to blocks`}, fail: true},
		"empty sinks":        {text: "sinks: {}\n", want: []string{"all.yaml:1:1: sinks: want at least one sink: a mapping of names to blocks"}, fail: true},
		"list of sinks":      {text: "sinks:\n- a\n", want: []string{"all.yaml:1:1: sinks: want at least one sink: a mapping of names to blocks"}, fail: true},
		"misspelt sinks":     {text: "sink:\n" + good, want: []string{`all.yaml:1:1: sink: unknown key; a document of several sinks has only the key sinks; did you mean "sinks"?`}, fail: true},
		"one sink's block":   {text: "kind: fake\nurl: x\n", want: []string{"all.yaml:1:1: kind: unknown key; a document of several sinks has only the key sinks", "all.yaml:2:1: url: unknown key; a document of several sinks has only the key sinks"}, fail: true},
		"another key":        {text: "version: 1\nsinks:\n" + good, want: []string{"all.yaml:1:1: version: unknown key; a document of several sinks has only the key sinks"}, left: []string{"good"}},
		"a sink is a text":   {text: "sinks:\n" + good + "  bad: x\n", want: []string{"all.yaml:3:3: bad: want a mapping of keys to values"}, left: []string{"bad", "good"}},
		"a sink is faulty":   {text: "sinks:\n" + good + "  bad:\n    kind: fake\n    url: x\n    retry:\n      max_atempts: 3\n", want: []string{`all.yaml:7:7: bad: retry.max_atempts: unknown key; known: attempt_timeout, base_backoff, jitter_fraction, max_attempts, max_backoff, max_wait; did you mean "max_attempts"?`}, left: []string{"bad", "good"}},
		"a name comes twice": {text: "sinks:\n" + good + "  bad: {kind: fake, url: x}\n  bad: {kind: fake, url: y}\n", want: []string{"all.yaml:4:3: bad: configured twice, first in all.yaml"}, left: []string{"bad", "good"}},
		"a bad name":         {text: "sinks:\n" + good + "  Bad: {kind: fake, url: x}\n", want: []string{"all.yaml:3:3: Bad: the name does not match [a-z0-9][a-z0-9._-]{0,63}: the sink is left out"}, left: []string{"good"}},
	} {
		t.Run(name, func(t *testing.T) {
			source := write(t, map[string]string{"all.yaml": c.text})
			source.path += "/all.yaml"
			findings, err := Check(t.Context(), source, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range findings {
				findings[i].Message = strings.ReplaceAll(f.Message, source.path, "all.yaml")
			}
			if diff := cmp.Diff(append([]string{}, c.want...), texts(findings)); diff != "" {
				t.Errorf("findings (-want +got)\n%s", diff)
			}
			s, err := load(t.Context(), source, nil, nil)
			if c.fail {
				if err == nil {
					t.Errorf("loaded %q, want an error", s.Names())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.left, s.Names()); diff != "" {
				t.Errorf("names (-want +got)\n%s", diff)
			}
			if ok, _ := s.Sink("good"); ok.Err != nil {
				t.Errorf("the good sink: %v", ok.Err)
			}
		})
	}
}

func TestTheSameNameInTwoFilesSpoilsIt(t *testing.T) {
	source := write(t, map[string]string{"a.yaml": "kind: fake\nurl: x", "a.yml": "kind: fake\nurl: y", "b.yaml": "kind: fake\nurl: x"})
	s := loaded(t, source, nil, nil)
	if a, _ := s.Sink("a"); a.Err == nil || !strings.Contains(a.Err.Error(), "configured twice") {
		t.Errorf("error %v, want that it is configured twice", a.Err)
	}
	if b, _ := s.Sink("b"); b.Err != nil {
		t.Errorf("the other sink: %v", b.Err)
	}
}

func TestDescribeShowsNameKindAndErrorOnly(t *testing.T) {
	s := loaded(t, write(t, map[string]string{"a.yaml": "kind: fake\nurl: hunter2", "b.yaml": "kind: hunter2"}), nil, nil)
	d := s.Describe()
	if len(d) != 2 || d[0] != (Description{Name: "a", Kind: "fake"}) {
		t.Fatalf("descriptions %+v", d)
	}
	if d[1].Kind != "" || !strings.Contains(d[1].Error, "unknown kind") || strings.Contains(d[1].Error, "hunter2") {
		t.Errorf("description of the faulty sink %+v", d[1])
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "kind: fake\nurl: x\n", "sinks:\n  a: {kind: fake, url: x}\n", "sinks: {a: &a {b: *a}}", "kind: rude\nhow: panics\n",
		"kind: fake\nurl: {ssm: /a}\nheaders: {a: {ssm: /b:3}}\n", "a: *b", "? [a]\n: b", "<<: {a: b}", "kind: !x y\n", "kind: fake\nsize: 0x1F\n",
		"kind: fake\nurl: 2026-01-01\nretry: {base_backoff: 1s, jitter_fraction: .inf}\n", "---\n---\n", "\xff", "{a: b, a: c}", "[[[[[[[[",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") + strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 2
		for _, name := range []string{"", "s"} {
			blocks, findings, err := split([]Document{{Source: "doc", Name: name, Text: sinks.Secret(text)}})
			if invalid, ok := errors.AsType[*InvalidError](err); ok {
				findings = invalid.Findings
			} else if err != nil {
				t.Fatalf("error %v, want an *InvalidError", err)
			}
			values := map[string]resolved{}
			for _, ref := range references(blocks) {
				values[ref] = resolved{value: "a referred value"}
			}
			for _, b := range blocks {
				sink, faults, _ := b.sink(values, nil, new(int))
				if (sink.Sink == nil) != (sink.Err != nil) || (sink.Err == nil) != (len(faults) == 0) {
					t.Errorf("sink %v, error %v, findings %v", sink.Sink, sink.Err, faults)
				}
				findings = append(findings, faults...)
			}
			for _, finding := range findings {
				if finding.Message == "" || finding.Line > lines || strings.Contains(finding.String(), "a referred value") {
					t.Errorf("finding %q in %q", finding, text)
				}
			}
		}
	})
}

func TestALongBaseDelayRaisesTheDefaultCapOnly(t *testing.T) {
	s := loaded(t, write(t, map[string]string{
		"free.yaml":  "kind: fake\nurl: x\nreplay: {base_delay: 12h}\n",
		"bound.yaml": "kind: fake\nurl: x\nreplay: {base_delay: 12h, max_delay: 6h}\n",
	}), nil, nil)
	if free, _ := s.Sink("free"); free.Replay.MaxDelay != 12*time.Hour {
		t.Errorf("max_delay %s, want base_delay's 12h", free.Replay.MaxDelay)
	}
	if want := []string{"bound.yaml:3:27: bound: replay.max_delay: want at least base_delay"}; !cmp.Equal(texts(s.Findings()), want) {
		t.Errorf("findings %q, want %q", texts(s.Findings()), want)
	}
}
