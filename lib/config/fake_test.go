package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"backstop/lib/sinks"
)

// The kind "fake" is what a kind's author would write; "rude" breaks every rule.
func TestMain(m *testing.M) {
	sinks.RegisterFactory("fake", newFake)
	sinks.RegisterFactory("rude", func(_ string, raw map[string]any) (sinks.Sink, error) {
		switch raw["how"] {
		case "panics":
			panic(raw["secret"])
		case "quotes":
			return nil, fmt.Errorf("cannot use %q (%v)", raw["secret"], raw["secret"])
		}
		return nil, nil
	})
	os.Exit(m.Run())
}

type fakeConfig struct {
	URL     sinks.Secret            `json:"url"`
	Headers map[string]sinks.Secret `json:"headers"`
	Secrets []sinks.Secret          `json:"signing_secrets"`
	Format  string                  `json:"format"`
	Size    int                     `json:"size"`
	Strict  bool                    `json:"strict"`
}

type fakeSink struct {
	name string
	cfg  fakeConfig
}

func (s *fakeSink) Name() string                                               { return s.name }
func (s *fakeSink) Send(context.Context, sinks.Recipient, sinks.Message) error { return nil }

func newFake(name string, raw map[string]any) (sinks.Sink, error) {
	s := &fakeSink{name: name}
	errs := []error{sinks.DecodeConfig(raw, &s.cfg)}
	if s.cfg.URL == "" {
		errs = append(errs, &sinks.ConfigError{Key: "url", Msg: "required"})
	}
	for key := range s.cfg.Headers {
		if key == "Host" {
			errs = append(errs, &sinks.ConfigError{Key: "headers." + key, Msg: "not allowed"})
		}
	}
	for i, secret := range s.cfg.Secrets {
		if secret == "short" {
			errs = append(errs, &sinks.ConfigError{Key: fmt.Sprintf("signing_secrets[%d]", i), Msg: "too short"})
		}
	}
	if s.cfg.Format != "" && s.cfg.Format != "raw" {
		errs = append(errs, &sinks.ConfigError{Key: "format", Msg: "want raw"})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// urlOf returns what a fake sink was configured with.
func urlOf(t *testing.T, s *Sink) string {
	t.Helper()
	if s.Err != nil {
		t.Fatalf("sink %s: %v", s.Name, s.Err)
	}
	fake, ok := s.Sink.(*fakeSink)
	if !ok {
		t.Fatalf("sink %s is a %T", s.Name, s.Sink)
	}
	return fake.cfg.URL.Reveal()
}

// fakeSSM is a Parameter Store in memory with the faults of the real one.
type fakeSSM struct {
	mu         sync.Mutex
	params     map[string]string
	emptyPages int             // come before the first parameter
	loop       bool            // announces the same next page for ever
	denied     map[string]bool // parameters that the role may not read
	fail       error           // of every call
	hang       bool            // every call lasts until its context ends
	delay      time.Duration   // of every answer
	frozen     time.Duration   // the next call notices only after it that its context has ended, as in a frozen process
	calls      []string
}

func (f *fakeSSM) set(change func(*fakeSSM)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeSSM) reads() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (f *fakeSSM) begin(ctx context.Context, call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	fail, hang, delay, frozen := f.fail, f.hang, f.delay, f.frozen
	f.frozen = 0
	f.mu.Unlock()
	if frozen > 0 {
		time.Sleep(frozen)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	time.Sleep(delay)
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func apiError(code string, fault smithy.ErrorFault) error {
	return &smithy.OperationError{
		ServiceID: "SSM", OperationName: "Get",
		Err: &smithy.GenericAPIError{Code: code, Message: "told by SSM", Fault: fault},
	}
}

func parameter(name, value string) types.Parameter {
	return types.Parameter{Name: aws.String(name), Value: aws.String(value)}
}

func (f *fakeSSM) GetParametersByPath(ctx context.Context, in *ssm.GetParametersByPathInput, _ ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error) {
	if err := f.begin(ctx, "path "+*in.Path); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !aws.ToBool(in.WithDecryption) || aws.ToBool(in.Recursive) {
		return nil, errors.New("want WithDecryption and not Recursive")
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(f.params)) {
		if path.Dir(name) == *in.Path {
			names = append(names, name)
		}
	}
	page := 0
	if in.NextToken != nil {
		_, _ = fmt.Sscanf(*in.NextToken, "page-%d", &page)
	}
	out := &ssm.GetParametersByPathOutput{}
	from := (page - f.emptyPages) * 2 // two a page
	if from >= 0 {
		for _, name := range names[min(from, len(names)):min(from+2, len(names))] {
			out.Parameters = append(out.Parameters, parameter(name, f.params[name]))
		}
	}
	switch {
	case f.loop:
		out.NextToken = aws.String("page-0")
	case from+2 < len(names):
		out.NextToken = aws.String(fmt.Sprintf("page-%d", page+1))
	}
	return out, nil
}

func (f *fakeSSM) GetParameter(ctx context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	if err := f.begin(ctx, "get "+*in.Name); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ok := f.params[*in.Name]
	if !ok {
		return nil, &types.ParameterNotFound{}
	}
	p := parameter(*in.Name, value)
	return &ssm.GetParameterOutput{Parameter: &p}, nil
}

func (f *fakeSSM) GetParameters(ctx context.Context, in *ssm.GetParametersInput, _ ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	if err := f.begin(ctx, fmt.Sprintf("batch of %d", len(in.Names))); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(in.Names) > 10 || !aws.ToBool(in.WithDecryption) {
		return nil, apiError("ValidationException", smithy.FaultClient)
	}
	out := &ssm.GetParametersOutput{}
	for _, full := range in.Names {
		name, selector, selected := strings.Cut(full, ":")
		if f.denied[name] {
			return nil, apiError("AccessDeniedException", smithy.FaultClient)
		}
		value, ok := f.params[name]
		if !ok {
			out.InvalidParameters = append(out.InvalidParameters, full)
			continue
		}
		p := parameter(name, value)
		if selected {
			p.Selector = aws.String(":" + selector)
			p.Value = aws.String(value + "@" + selector)
		}
		out.Parameters = append(out.Parameters, p)
	}
	return out, nil
}

// write writes files into a new folder and returns the source of the folder.
func write(t *testing.T, files map[string]string) Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return parsed(t, "file:"+dir)
}

func parsed(t *testing.T, spec string) Source {
	t.Helper()
	source, err := ParseSource(spec)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// loaded loads a source that must be readable.
func loaded(t *testing.T, source Source, client SSM, prev *Snapshot) *Snapshot {
	t.Helper()
	s, err := load(t.Context(), source, client, prev)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// texts shows findings without the folder of the test.
func texts(findings []Finding) []string {
	out := make([]string, len(findings))
	for i, f := range findings {
		f.Source = filepath.Base(f.Source)
		out[i] = f.String()
	}
	return out
}
