package sinks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
)

// even is a value with rules of its own.
type even int

func (e *even) UnmarshalJSON(b []byte) error {
	var n int
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	if n%2 != 0 {
		return errors.New("want an even number")
	}
	*e = even(n)
	return nil
}

type settings struct {
	URL     string                  `json:"url"`
	Limit   int                     `json:"limit,omitempty"`
	On      bool                    `json:"on"`
	List    []string                `json:"list"`
	Headers map[string]sinks.Secret `json:"headers"`
	Pass    sinks.Secret            `json:"pass"`
	Pair    even                    `json:"pair"`
	Nested  struct {
		A string `json:"a"`
	} `json:"nested"`
	Many []struct {
		A string `json:"a"`
	} `json:"many"`
	Share    float64 `json:"share"`
	Pointer  *int    `json:"pointer"`
	Skipped  string  `json:"-"`
	Untagged string
}

func TestDecodeConfigFillsWhatIsGivenAndKeepsTheRest(t *testing.T) {
	got := settings{Limit: 5, On: true, Untagged: "kept"}
	if err := sinks.DecodeConfig(map[string]any{
		"url": "https://x.example", "list": []any{"a"}, "headers": map[string]any{"k": "v"}, "pass": "p", "pair": 4,
		"nested": map[string]any{"a": "b"}, "on": false,
	}, &got); err != nil {
		t.Fatal(err)
	}
	want := settings{
		URL: "https://x.example", Limit: 5, List: []string{"a"}, Headers: map[string]sinks.Secret{"k": "v"}, Pass: "p", Pair: 4, Untagged: "kept",
	}
	want.Nested.A = "b"
	if !cmp.Equal(want, got) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := sinks.DecodeConfig(nil, &got); err != nil {
		t.Errorf("an empty configuration: %v", err)
	}
}

func TestDecodeConfigReportsAllFaultsTogetherWithoutValues(t *testing.T) {
	const secret = "tok3n"
	err := sinks.DecodeConfig(map[string]any{
		"url": map[string]any{secret: secret}, "limit": secret, "on": "yes " + secret, "list": secret, "headers": []any{secret},
		"pass": []any{secret}, "pair": 3, "nested": map[string]any{"b": "x"}, "uRL": "x", "zzz": secret, "Skipped": secret, "Untagged": "x", "": 1,
	}, &settings{})
	var got []string
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok {
		t.Fatalf("the faults are not joined: %v", err)
	}
	for _, err := range joined.Unwrap() {
		fault, ok := errors.AsType[*sinks.ConfigError](err)
		if !ok {
			t.Errorf("a fault is a %T: %v", err, err)
			continue
		}
		got = append(got, fault.Key)
		unknown := slices.Contains([]string{"", "Skipped", "Untagged", "nested.b", "uRL", "zzz"}, fault.Key)
		if unknown != (fault.Known != nil) || unknown && !slices.Contains(fault.Known, "url") && fault.Key != "nested.b" {
			t.Errorf("fault %v lists the known keys %q", err, fault.Known)
		}
	}
	want := []string{"", "Skipped", "Untagged", "headers", "limit", "list", "nested.b", "on", "pair", "pass", "uRL", "url", "zzz"}
	if !slices.Equal(got, want) {
		t.Errorf("faults in %q, want %q", got, want)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
		t.Errorf("the error shows a value: %v", err)
	}
	for _, want := range []string{"limit: want a whole number, got a text", "pair: want an even number", "nested.b: unknown key; known: a"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %v does not say %q", err, want)
		}
	}
}

// An operator knows YAML, not Go.
func TestDecodeConfigSaysWhatIsWantedInTheOperatorsWords(t *testing.T) {
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"url", 12345, "url: want a text, got a number; put it in quotes"},
		{"url", true, "url: want a text, got true or false; put it in quotes"},
		{"url", []any{"a"}, "url: want a text, got a list"},
		{"pass", 12345, "pass: want a text, got a number; put it in quotes"},
		{"pass", map[string]any{"a": "b"}, "pass: want a text, got a mapping"},
		{"limit", "5", "limit: want a whole number, got a text"},
		{"limit", 1.5, "limit: want a whole number in range"},
		{"limit", 1e300, "limit: want a whole number in range"},
		{"limit", make(chan int), "limit: want a whole number"},
		{"share", "half", "share: want a number, got a text"},
		{"on", "yes", "on: want true or false, got a text"},
		{"on", 1, "on: want true or false, got a number"},
		{"list", "a", "list: want a list of texts, got a text"},
		{"list", []any{"a", 5, "b", true}, "list[1]: want a text, got a number; put it in quotes\nlist[3]: want a text, got true or false; put it in quotes"},
		{"headers", "a", "headers: want a mapping of names to texts, got a text"},
		{"headers", map[string]any{"A": 5, "B": "b"}, "headers.A: want a text, got a number; put it in quotes"},
		{"nested", "a", "nested: want a mapping of keys to values, got a text"},
		{"nested", map[string]any{"a": 5, "b": 6}, "nested.a: want a text, got a number; put it in quotes\nnested.b: unknown key; known: a"},
		{"many", map[string]any{"a": "x"}, "many: want a list, got a mapping"},
		{"many", []any{map[string]any{"a": 1}, map[string]any{"c": "x"}}, "many[0].a: want a text, got a number; put it in quotes\nmany[1].c: unknown key; known: a"},
		{"pointer", "x", "pointer: want a whole number, got a text"},
		{"pair", "x", "pair: want a whole number, got a text"},
	} {
		err := sinks.DecodeConfig(map[string]any{c.key: c.value}, &settings{})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v: got %v, want %s", c.key, c.value, err, c.want)
		}
	}
}

func TestConfigureReportsWhatCannotBeReadTogetherWithWhatIsMissing(t *testing.T) {
	build := func(s settings) (plain, error) {
		var errs []error
		for key, missing := range map[string]bool{"url": s.URL == "", "pass": s.Pass == ""} {
			if missing {
				errs = append(errs, &sinks.ConfigError{Key: key, Msg: "required"})
			}
		}
		if len(s.List) > 0 && s.List[0] == "" {
			errs = append(errs, &sinks.ConfigError{Key: "list[0]", Msg: "empty"})
		}
		if s.Limit == 13 {
			errs = append(errs, errors.New("unlucky"))
		}
		return plain{name: s.URL}, errors.Join(errs...)
	}
	for _, c := range []struct {
		raw  map[string]any
		want string
	}{
		{map[string]any{"url": "u", "pass": "p"}, ""},
		{map[string]any{"url": "u"}, "pass: required"},
		{map[string]any{"url": "u", "limit": "x"}, "limit: want a whole number, got a text\npass: required"},
		{map[string]any{"url": 5, "list": []any{5}, "pass": "p"}, "list[0]: want a text, got a number; put it in quotes\nurl: want a text, got a number; put it in quotes"},
		{map[string]any{"url": "u", "pass": "p", "limit": 13}, "unlucky"},
		{map[string]any{"url": "u", "pass": "p", "limit": 13, "on": 1}, "on: want true or false, got a number"},
	} {
		s, err := sinks.Configure(c.raw, build)
		if c.want == "" {
			if err != nil || s != (plain{name: "u"}) {
				t.Errorf("%v: got %v, %v", c.raw, s, err)
			}
			continue
		}
		if err == nil || err.Error() != c.want || s != nil {
			t.Errorf("%v: got %v, %v, want %s", c.raw, s, err, c.want)
		}
	}
}

func TestDecodeConfigWantsAPointerToAStruct(t *testing.T) {
	for _, into := range []any{settings{}, new(int), map[string]any{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("DecodeConfig into a %T did not panic", into)
				}
			}()
			_ = sinks.DecodeConfig(nil, into)
		}()
	}
}

func TestADurationIsWrittenWithItsUnit(t *testing.T) {
	type config struct {
		Wait  time.Duration  `json:"wait"`
		Limit *time.Duration `json:"limit"`
	}
	var got config
	if err := sinks.DecodeConfig(map[string]any{"wait": "1m30s", "limit": "0s"}, &got); err != nil || got.Wait != 90*time.Second || got.Limit == nil || *got.Limit != 0 {
		t.Errorf("decoded %+v, %v", got, err)
	}
	got = config{Wait: time.Second}
	err := sinks.DecodeConfig(map[string]any{"wait": 5, "limit": "S3CRET"}, &got)
	want := "limit: want a duration such as 250ms, 30s or 6h\nwait: want a duration with its unit, such as 250ms"
	if err == nil || err.Error() != want || got.Wait != time.Second || got.Limit != nil {
		t.Errorf("decoded %+v, %v; want %q", got, err, want)
	}
}
