package sinks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// plain is a sink and nothing else.
type plain struct {
	name  string
	label string
}

func (p plain) Name() string { return p.name }

func (plain) Send(context.Context, sinks.Recipient, sinks.Message) error { return nil }

// able implements all that a sink may implement besides.
type able struct{ plain }

func (able) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	return "decoded " + string(raw), nil
}

func (able) Validate(_ sinks.Recipient, m sinks.Message) error {
	if m.Body == "" {
		return errors.New("empty")
	}
	return nil
}

func (able) Deduplicates() bool { return true }

// wrapper hides what the sink within implements.
type wrapper struct{ inner sinks.Sink }

func (w wrapper) Name() string { return w.inner.Name() }

func (w wrapper) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	return w.inner.Send(ctx, to, m)
}

func (w wrapper) Unwrap() sinks.Sink { return w.inner }

func TestAbilitiesAreFoundThroughWrappers(t *testing.T) {
	for _, s := range []sinks.Sink{able{}, wrapper{able{}}, wrapper{wrapper{able{}}}} {
		if got, err := sinks.DecodeRecipient(s, []byte("x")); got != "decoded x" || err != nil {
			t.Errorf("DecodeRecipient(%T) = %v, %v", s, got, err)
		}
		if err := sinks.Validate(s, nil, sinks.Message{}); err == nil {
			t.Errorf("Validate(%T) = nil, want the sink's own error", s)
		}
		if !sinks.Deduplicates(s) {
			t.Errorf("Deduplicates(%T) = false", s)
		}
	}
}

func TestSinkWithoutAbilities(t *testing.T) {
	for _, s := range []sinks.Sink{plain{name: "a"}, wrapper{plain{name: "a"}}} {
		if err := sinks.Validate(s, nil, sinks.Message{}); err != nil {
			t.Errorf("Validate(%T) = %v, want nil", s, err)
		}
		if sinks.Deduplicates(s) {
			t.Errorf("Deduplicates(%T) = true", s)
		}
		for _, raw := range []string{"", "null", " null\n"} {
			if got, err := sinks.DecodeRecipient(s, []byte(raw)); got != nil || err != nil {
				t.Errorf("DecodeRecipient(%T, %q) = %v, %v, want nil, nil", s, raw, got, err)
			}
		}
		for _, raw := range []string{"{}", `"x"`, "0", "nul"} {
			if _, err := sinks.DecodeRecipient(s, []byte(raw)); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
				t.Errorf("DecodeRecipient(%T, %q): %v, want %s", s, raw, err, sinks.CodeInvalidArgument)
			}
		}
	}
}

// stored is a decoder that was written for stored recipients only, whose errors are json's.
type stored struct{ plain }

func (stored) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var to struct{ Phone string }
	err := json.Unmarshal(raw, &to)
	return to.Phone, err
}

func TestADecoderIsNotCalledWithoutARecipient(t *testing.T) {
	for _, raw := range []string{"", "null", " null\n"} {
		for name, decode := range map[string]func(sinks.Sink, []byte) (sinks.Recipient, error){
			"DecodeRecipient": sinks.DecodeRecipient, "DecodeStoredRecipient": sinks.DecodeStoredRecipient,
		} {
			if to, err := decode(stored{}, []byte(raw)); to != nil || err != nil {
				t.Errorf("%s(%q) = %v, %v, want nil, nil", name, raw, to, err)
			}
		}
	}
}

func TestADecodersErrorHasACodeAndQuotesNoRecipient(t *testing.T) {
	_, err := sinks.DecodeRecipient(stored{plain{name: "sms"}}, []byte(`{"phone": 4915112345678}`))
	if sinks.CodeOf(err) != sinks.CodeInvalidArgument || sinks.IsTransient(err) {
		t.Errorf("got %v, want a terminal %s", err, sinks.CodeInvalidArgument)
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
		t.Error("the cause is lost")
	}
	const want = `INVALID_ARGUMENT: recipient: sink "sms" cannot read it (*json.UnmarshalTypeError)`
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if got := fmt.Sprintf(verb, err); got != want {
			t.Errorf("%s shows %q, want %q", verb, got, want)
		}
	}
}

// rude panics whatever it is asked.
type rude struct{ plain }

func (rude) DecodeRecipient([]byte) (sinks.Recipient, error) { panic("T0K3N") }
func (rude) Validate(sinks.Recipient, sinks.Message) error   { panic("T0K3N") }
func (rude) Deduplicates() bool                              { panic("T0K3N") }

func TestAPanicOfAnAbilityIsAnErrorAndLogged(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	s := rude{plain{name: "rude"}}
	_, err := sinks.DecodeRecipient(s, []byte("{}"))
	for method, err := range map[string]error{"DecodeRecipient": err, "Validate": sinks.Validate(s, nil, sinks.Message{})} {
		if want := fmt.Sprintf("INTERNAL: sink %q panicked in %s", "rude", method); err == nil || err.Error() != want || sinks.IsTransient(err) {
			t.Errorf("%s: got %v, want a terminal %s", method, err, want)
		}
	}
	if sinks.Deduplicates(s) {
		t.Error("a sink that panics promises nothing")
	}
	for _, want := range []string{"method=DecodeRecipient", "method=Validate", "method=Deduplicates", "rude.DecodeRecipient("} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "T0K3N") {
		t.Error("the log shows the panic's value")
	}
}

// loose is a Validator without codes.
type loose struct{ plain }

func (loose) Validate(sinks.Recipient, sinks.Message) error { return errors.New("too long") }

func TestAValidatorsErrorHasACode(t *testing.T) {
	err := sinks.Validate(loose{}, nil, sinks.Message{})
	if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.HasSuffix(err.Error(), "too long") {
		t.Errorf("got %v, want %s with the sink's words", err, sinks.CodeInvalidArgument)
	}
}

// retrying says that it retries by itself.
type retrying struct {
	wrapper
	yes bool
}

func (r retrying) IsRetrier() bool { return r.yes }

func TestRetriesAreFoundAtAnyDepth(t *testing.T) {
	for _, tt := range []struct {
		sink sinks.Sink
		want bool
	}{
		{nil, false},
		{plain{}, false},
		{wrapper{plain{}}, false},
		{retrying{wrapper{plain{}}, false}, false},
		{retrying{wrapper{plain{}}, true}, true},
		{wrapper{wrapper{retrying{wrapper{plain{}}, true}}}, true},
	} {
		if got := sinks.Retries(tt.sink); got != tt.want {
			t.Errorf("Retries(%T) = %v, want %v", tt.sink, got, tt.want)
		}
	}
}

func TestRegistryKeepsTheLastSinkOfAName(t *testing.T) {
	r := sinks.NewRegistry(plain{name: "b", label: "first"}, plain{name: "a"})
	r.Register(plain{name: "b", label: "second"})
	if got, ok := r.Get("b"); !ok || got != (plain{name: "b", label: "second"}) {
		t.Errorf("Get(b) = %v, %v, want the second", got, ok)
	}
	if got, ok := r.Get("c"); ok {
		t.Errorf("Get(c) = %v, want none", got)
	}
	if got, want := r.Names(), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("Names() = %q, want %q", got, want)
	}
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	r := sinks.NewRegistry()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				r.Register(plain{name: fmt.Sprint(i, j)})
				r.Get("11")
				r.Names()
			}
		})
	}
	wg.Wait()
	if got := len(r.Names()); got != 8*50 {
		t.Errorf("%d sinks, want %d", got, 8*50)
	}
}

func TestFactoriesBuildByKindAndTheLastOneCounts(t *testing.T) {
	sinks.RegisterFactory("test-kind", func(string, map[string]any) (sinks.Sink, error) { return nil, errors.New("replaced") })
	sinks.RegisterFactory("test-kind", func(name string, raw map[string]any) (sinks.Sink, error) {
		switch raw["fault"] {
		case "error":
			return nil, &sinks.ConfigError{Key: "url", Msg: "required"}
		case "nothing":
			return nil, nil
		}
		return plain{name: name}, nil
	})
	if s, err := sinks.BuildSink("test-kind", "orders", nil); err != nil || s != (plain{name: "orders"}) {
		t.Errorf("BuildSink = %v, %v", s, err)
	}
	if !slices.Contains(sinks.FactoryKinds(), "test-kind") || !slices.IsSorted(sinks.FactoryKinds()) {
		t.Errorf("FactoryKinds() = %q", sinks.FactoryKinds())
	}
	if _, ok := sinks.LookupFactory("no-kind"); ok {
		t.Error("LookupFactory found a kind that nobody registered")
	}
	for _, c := range []struct {
		kind, name string
		raw        map[string]any
		want       string
	}{
		{"test-kind", "Bad Name", nil, "does not match"},
		{"no-kind", "orders", nil, `sink "orders": kind: unknown kind "no-kind"; known: `},
		{"test-kind", "orders", map[string]any{"fault": "error"}, `sink "orders": url: required`},
		{"test-kind", "orders", map[string]any{"fault": "nothing"}, "returned no sink"},
	} {
		_, err := sinks.BuildSink(c.kind, c.name, c.raw)
		if sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("BuildSink(%q, %q, %v): %v, want %s with %q", c.kind, c.name, c.raw, err, sinks.CodeSinkConfigInvalid, c.want)
		}
	}
}

func TestRegisteringNilPanicsWithTheKind(t *testing.T) {
	for want, register := range map[string]func(){
		`RegisterFactory("some-kind")`: func() { sinks.RegisterFactory("some-kind", nil) },
		"nil sink":                     func() { sinks.NewRegistry().Register(nil) },
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, want) {
					t.Errorf("panicked with %q, want %q", p, want)
				}
			}()
			register()
		}()
	}
}

func TestNamesAndIDs(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, want := range map[string]bool{
		"a": true, "0": true, "orders-eu.v2_x": true, long: true,
		"": false, "A": false, "-a": false, ".a": false, "a b": false, "a{b}": false, "a~b": false, "a/b": false, "ä": false, "a\n": false,
		long + "a": false,
	} {
		if err := fault.CheckName(name); (err == nil) != want || err != nil && sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("fault.CheckName(%q) = %v, want valid: %v", name, err, want)
		}
	}
	long = strings.Repeat("a", 128)
	for id, want := range map[string]bool{
		"a": true, "A-z_0:=+/@": true, long: true,
		"": false, "a.b": false, "a b": false, "a\r\nb": false, "a\n": false, "a%": false, "ä": false, "a\x00": false, long + "a": false,
	} {
		if err := fault.CheckID(id); (err == nil) != want || err != nil && sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("fault.CheckID(%q) = %v, want valid: %v", id, err, want)
		}
	}
}
