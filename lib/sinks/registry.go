package sinks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"backstop/lib/fault"
)

// Registry holds sinks by name. The zero value is not usable; see NewRegistry. It
// is safe for concurrent use.
type Registry struct {
	mu    sync.RWMutex
	sinks map[string]Sink
}

// NewRegistry returns a registry with the given sinks; of two with one name, the last.
// A nil one panics.
func NewRegistry(s ...Sink) *Registry {
	r := &Registry{sinks: make(map[string]Sink, len(s))}
	for _, s := range s {
		r.Register(s)
	}
	return r
}

// Register adds s under its name; the last write wins. Registering nil panics.
func (r *Registry) Register(s Sink) {
	if s == nil {
		panic("sinks: Register of a nil sink")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sinks[s.Name()] = s
}

// Get returns the sink called name; false when there is none.
func (r *Registry) Get(name string) (Sink, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.sinks[name]
	return s, ok
}

// Names returns the names of all sinks, sorted.
func (r *Registry) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.sinks))
}

// Factory builds a sink called name from its raw configuration, without I/O. raw
// holds the kind's own keys only; it must be decoded strictly (see DecodeConfig).
// Faults are reported together, as *ConfigError values joined with errors.Join.
type Factory func(name string, raw map[string]any) (Sink, error)

var (
	factoriesMu sync.RWMutex
	factories   = map[string]Factory{}
)

// RegisterFactory makes a sink kind available to BuildSink. Each kind calls it in
// its package's init. A second call for a kind overrides the first. A nil factory
// panics. It is safe for concurrent use, as all functions of this package are.
func RegisterFactory(kind string, f Factory) {
	if f == nil {
		panic(fmt.Sprintf("sinks: RegisterFactory(%q) with a nil factory", kind))
	}
	factoriesMu.Lock()
	defer factoriesMu.Unlock()
	factories[kind] = f
}

// LookupFactory returns the factory of a kind; false when none is registered.
func LookupFactory(kind string) (Factory, bool) {
	factoriesMu.RLock()
	defer factoriesMu.RUnlock()
	f, ok := factories[kind]
	return f, ok
}

// FactoryKinds returns the registered kinds, sorted.
func FactoryKinds() []string {
	factoriesMu.RLock()
	defer factoriesMu.RUnlock()
	return slices.Sorted(maps.Keys(factories))
}

// BuildSink builds the sink called name of the given kind. An unknown kind, a bad
// name and every fault of the configuration are SINK_CONFIG_INVALID.
func BuildSink(kind, name string, raw map[string]any) (Sink, error) {
	if err := fault.CheckName(name); err != nil {
		return nil, &Error{Code: CodeSinkConfigInvalid, Msg: "sink", Cause: err}
	}
	f, ok := LookupFactory(kind)
	if !ok {
		err := &ConfigError{Key: "kind", Msg: fmt.Sprintf("unknown kind %q; known: %s", kind, strings.Join(FactoryKinds(), ", "))}
		return nil, &Error{Code: CodeSinkConfigInvalid, Msg: fmt.Sprintf("sink %q", name), Cause: err}
	}
	s, err := f(name, raw)
	if err == nil && s == nil {
		err = errors.New("the factory returned no sink")
	}
	if err != nil {
		return nil, &Error{Code: CodeSinkConfigInvalid, Msg: fmt.Sprintf("sink %q", name), Cause: err}
	}
	return s, nil
}
