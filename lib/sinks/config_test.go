package sinks_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
	Skipped  string `json:"-"`
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
		known := slices.Contains([]string{"", "Skipped", "Untagged", "uRL", "zzz"}, fault.Key)
		if known != (fault.Known != nil) || known && !slices.Contains(fault.Known, "url") {
			t.Errorf("fault %v lists the known keys %q", err, fault.Known)
		}
	}
	want := []string{"", "Skipped", "Untagged", "headers", "limit", "list", "nested", "on", "pair", "pass", "uRL", "url", "zzz"}
	if !slices.Equal(got, want) {
		t.Errorf("faults in %q, want %q", got, want)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
		t.Errorf("the error shows a value: %v", err)
	}
	for _, want := range []string{"limit: want int, got string", "pair: want an even number", `nested: json: unknown field "b"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %v does not say %q", err, want)
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
