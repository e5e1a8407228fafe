package sinks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ConfigError is one fault in a sink's configuration. Its text names the key and
// never a secret value.
type ConfigError struct {
	Key string // dotted path within the sink's block, such as "retry.max_attempts"
	Msg string
	// Known lists the keys that are allowed where an unknown one was found; nil for
	// other faults.
	Known []string
}

// Error returns "key: message".
func (e *ConfigError) Error() string { return e.Key + ": " + e.Msg }

// DecodeConfig decodes raw strictly into the struct that into points to, by its json
// tags: unknown keys and values of the wrong type are *ConfigError values, all of
// them reported together (errors.Join). Types are decoded by encoding/json, so a
// field may implement json.Unmarshaler or encoding.TextUnmarshaler. Absent keys keep
// the value that the struct had.
func DecodeConfig(raw map[string]any, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("sinks: DecodeConfig into a %T, want a pointer to a struct", into))
	}
	fields := map[string]reflect.Value{}
	for f, fv := range v.Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = fv
		}
	}
	known := slices.Sorted(maps.Keys(fields))
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		fv, ok := fields[key]
		if !ok {
			errs = append(errs, &ConfigError{Key: key, Msg: "unknown key; known: " + strings.Join(known, ", "), Known: known})
			continue
		}
		if err := decodeValue(raw[key], fv.Addr().Interface()); err != nil {
			errs = append(errs, &ConfigError{Key: key, Msg: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// decodeValue converts one configuration value. Its errors say what was expected
// and what kind of value was found, never the value itself, which may be a secret.
func decodeValue(value, into any) error {
	want := reflect.TypeOf(into).Elem()
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("want %s, got %T", want, value)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("want %s, got %s", te.Type, te.Value)
	}
	return err
}
