package sinks

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// ConfigError is one fault in a sink's configuration. Its text names the key and
// never a secret value.
type ConfigError struct {
	Key string // dotted path within the sink's block, such as "retry.max_attempts" or "hosts[2]"
	Msg string
	// Hint is put behind Msg, and holds the words of the code alone: what is wrong, what would do. Unlike Msg, it is
	// never searched for configured values, a word of which it may happen to have. It must hold none.
	Hint string
	// Known lists the keys that are allowed where an unknown one was found; nil for
	// other faults.
	Known []string
	// Placeholder, of an Advice: the value is a sample's, and nobody's own.
	Placeholder bool
	// Word is what Known is about, where that is not the last part of Key.
	Word string
}

// Error returns "key: message" with the hint.
func (e *ConfigError) Error() string { return e.Key + ": " + e.Msg + e.Hint }

// Adviser is implemented by sinks that may be configured in ways that are valid and yet
// hardly meant, such as a port that does not go with the protocol. It does no I/O.
type Adviser interface {
	// Advice says so, for whoever checks the configuration. It names no secret.
	Advice() []*ConfigError
}

// Advice returns the Advice of s, or of the sink that s wraps; nil for sinks without.
func Advice(s Sink) []*ConfigError {
	if a, ok := as[Adviser](s); ok {
		return a.Advice()
	}
	return nil
}

// DecodeConfig decodes raw strictly into the struct that into points to, by its json
// tags: unknown keys and values of the wrong type are *ConfigError values, all of
// them reported together (errors.Join), in the words of whoever wrote the
// configuration: "want a text, got a number". A time.Duration is written as text with its
// unit: "250ms". A field may be a pointer to what it takes, and may implement
// json.Unmarshaler, whose errors are shown as they are (a *ConfigError needs no key), or encoding.TextUnmarshaler. Absent
// keys keep the value that the struct had.
func DecodeConfig(raw map[string]any, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("sinks: DecodeConfig into a %T, want a pointer to a struct", into))
	}
	return errors.Join(decodeStruct("", raw, v.Elem())...)
}

// Configure decodes raw into a C (see DecodeConfig) and hands it to build; it is all
// that most factories need:
//
//	func(name string, raw map[string]any) (sinks.Sink, error) {
//		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c) })
//	}
//
// build is called even when some keys could not be decoded, so that what it finds is
// reported with them. Of its faults, those about keys that could not be decoded are
// left out: they follow from it.
func Configure[C any, S Sink](raw map[string]any, build func(C) (S, error)) (Sink, error) {
	var c C
	faults := leaves(DecodeConfig(raw, &c))
	s, err := build(c)
	switch {
	case err == nil && len(faults) == 0:
		return s, nil
	case len(faults) == 0:
		return nil, err
	}
	unreadable := map[string]bool{}
	for _, f := range faults {
		unreadable[firstKey(f)] = true
	}
	for _, f := range leaves(err) {
		if key := firstKey(f); key != "" && !unreadable[key] {
			faults = append(faults, f)
		}
	}
	return nil, errors.Join(faults...)
}

// leaves returns the errors that err joins.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // the tree is walked here, level by level
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, leaves(e)...)
	}
	return out
}

// firstKey returns the key of the block itself that a fault is about, "" for others.
func firstKey(err error) string {
	fault, ok := errors.AsType[*ConfigError](err)
	if !ok {
		return ""
	}
	if i := strings.IndexAny(fault.Key, ".["); i >= 0 {
		return fault.Key[:i]
	}
	return fault.Key
}

func decodeStruct(prefix string, raw map[string]any, v reflect.Value) []error {
	fields := map[string]reflect.Value{}
	for f, fv := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = fv
		}
	}
	known := slices.Sorted(maps.Keys(fields))
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		fv, ok := fields[key]
		if !ok {
			faults = append(faults, &ConfigError{Key: prefix + key, Hint: "unknown key; known: " + strings.Join(known, ", "), Known: known})
			continue
		}
		faults = append(faults, decodeValue(prefix+key, raw[key], fv)...)
	}
	return faults
}

// decodeValue converts one configuration value, and lists, mappings and structs part
// by part, so that each fault has its own path.
func decodeValue(key string, value any, v reflect.Value) []error {
	var faults []error
	list, isList := value.([]any)
	mapping, isMapping := value.(map[string]any)
	switch t := v.Type(); {
	case t == reflect.TypeFor[time.Duration]():
		d, want := duration(value)
		if want != "" {
			return []error{&ConfigError{Key: key, Hint: want}}
		}
		v.Set(reflect.ValueOf(d))
		return nil
	case decodesItself(t):
	case t.Kind() == reflect.Pointer && value != nil:
		to := reflect.New(t.Elem())
		if faults = decodeValue(key, value, to.Elem()); faults == nil || t.Elem().Kind() == reflect.Struct {
			v.Set(to)
		}
		return faults
	case isList && t.Kind() == reflect.Slice:
		out := reflect.MakeSlice(t, len(list), len(list))
		for i, item := range list {
			faults = append(faults, decodeValue(fmt.Sprintf("%s[%d]", key, i), item, out.Index(i))...)
		}
		v.Set(out)
		return faults
	case isMapping && t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		out := reflect.MakeMapWithSize(t, len(mapping))
		for _, name := range slices.Sorted(maps.Keys(mapping)) {
			item := reflect.New(t.Elem()).Elem()
			faults = append(faults, decodeValue(key+"."+name, mapping[name], item)...)
			out.SetMapIndex(reflect.ValueOf(name).Convert(t.Key()), item)
		}
		v.Set(out)
		return faults
	case isMapping && t.Kind() == reflect.Struct:
		return decodeStruct(key+".", mapping, v)
	}
	want, err := decodeJSON(value, v.Addr().Interface())
	switch {
	case want != "":
		return []error{&ConfigError{Key: key, Hint: want}}
	case err != nil:
		fault := &ConfigError{Msg: err.Error()}
		if own, ok := errors.AsType[*ConfigError](err); ok {
			*fault = *own
		}
		fault.Key = key
		return []error{fault}
	}
	return nil
}

// duration reads a duration as it is written; a bare number is refused, for it has no unit.
func duration(value any) (d time.Duration, want string) {
	text, ok := value.(string)
	if !ok {
		return 0, "want a duration with its unit, such as 250ms"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, "want a duration such as 250ms, 30s or 6h" // the cause would quote the value
	}
	return d, ""
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// decodeJSON converts one value by way of JSON. It says what it wants and what kind of value was found, never the value
// itself, which may be a secret. The error is of a type that decodes itself.
func decodeJSON(value, into any) (want string, err error) {
	b, err := json.Marshal(value)
	if err != nil { // which would quote the value
		return "want " + wanted(reflect.TypeOf(into).Elem()), err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	te, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return "", err
	}
	want = wanted(te.Type)
	kind, _, _ := strings.Cut(te.Value, " ") // "number 1.5"
	switch got := found[kind]; {
	case got == "":
		return "want " + want, nil
	case want == text && (kind == "number" || kind == "bool"):
		return fmt.Sprintf("want %s, got %s; put it in quotes", want, got), nil
	case want == wholeNumber && kind == "number":
		return "want " + want + " in range", nil
	default:
		return fmt.Sprintf("want %s, got %s", want, got), nil
	}
}

const (
	text        = "a text"
	wholeNumber = "a whole number"
)

// wanted names a type as YAML users know it.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return text
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return wholeNumber
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.String {
			return "a list of texts"
		}
		return "a list"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "a mapping of names to texts"
		}
		return "a mapping"
	case reflect.Struct:
		return "a mapping of keys to values"
	case reflect.Pointer:
		return wanted(t.Elem())
	}
	return "another kind of value"
}

// found names the JSON kinds of encoding/json's errors.
var found = map[string]string{
	"string": text, "number": "a number", "bool": "true or false", "array": "a list", "object": "a mapping",
}
