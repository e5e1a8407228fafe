package http

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"backstop/lib/sinks"
)

//go:embed presets/*.yaml
var presets embed.FS

const suffix = ".yaml"

// Presets returns the kinds that come with the package, sorted. It reads none of them.
func Presets() []string {
	files, err := fs.ReadDir(presets, "presets")
	if err != nil {
		panic(err) // it is part of the program
	}
	kinds := make([]string, len(files))
	for i, f := range files {
		kinds[i] = strings.TrimSuffix(f.Name(), suffix)
	}
	slices.Sort(kinds)
	return kinds
}

// Preset returns the document of a preset, as it is written and as it is read; fs.ErrNotExist where
// there is none of that name.
func Preset(kind string) (text []byte, d Document, err error) {
	if text, err = presets.ReadFile("presets/" + kind + suffix); err != nil {
		return nil, Document{}, fmt.Errorf("preset %q: %w", kind, fs.ErrNotExist)
	}
	d, err = Parse(text)
	return text, d, err
}

// Parse reads a document as YAML. Its faults are *sinks.ConfigError values, joined, but for what is no
// YAML at all.
func Parse(text []byte) (Document, error) {
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return Document{}, errors.New("not readable as YAML")
	}
	dated(raw)
	if declared, ok := raw["parameters"].(map[string]any); ok {
		raw["parameters"] = short(declared)
	}
	var d Document
	return d, sinks.DecodeConfig(raw, &d)
}

// dated makes texts of the days that YAML has read as times.
func dated(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.Format(time.DateOnly)
	case map[string]any:
		for key, item := range v {
			v[key] = dated(item)
		}
	case []any:
		for i, item := range v {
			v[i] = dated(item)
		}
	}
	return v
}

// parsed are the presets that were used.
var parsed sync.Map // of func() (Document, error), by kind

// PresetFactory returns the factory of a preset, which is read when it is called first. Nil: with the defaults.
func PresetFactory(kind string, o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		once, _ := parsed.LoadOrStore(kind, sync.OnceValues(func() (Document, error) {
			_, d, err := Preset(kind)
			return d, err
		}))
		read, ok := once.(func() (Document, error))
		if !ok {
			panic("http: " + kind + " is kept as something else")
		}
		d, err := read()
		if err != nil {
			return nil, fmt.Errorf("preset %s: %w", kind, err)
		}
		s, err := build(kind, name, &d, raw, o)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}
