package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"backstop/lib/sinks/http"
)

const (
	urlPattern    = `^[hH][tT][tT][pP][sS]?://[^\s#]+$`
	statusPattern = `^([1-5]xx|[1-9][0-9]{2})$`
	dedupPattern  = `^(forever|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`
	ownPattern    = `^[a-z][a-z0-9_]{0,39}$` // names that a document gives
)

var reference = &jsonschema.Schema{Ref: "#/$defs/reference"}

func oneOf(s ...*jsonschema.Schema) *jsonschema.Schema { return &jsonschema.Schema{OneOf: s} }

func listOf(s *jsonschema.Schema) *jsonschema.Schema {
	one := uint64(1)
	return &jsonschema.Schema{Type: "array", Items: s, MinItems: &one}
}

func scalar() *jsonschema.Schema {
	return oneOf(&jsonschema.Schema{Type: "string"}, &jsonschema.Schema{Type: "number"}, &jsonschema.Schema{Type: "boolean"}, reference)
}

// ofDocument describes the parts of a document that decode themselves; nil: t is none.
func ofDocument(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[http.Scalar]():
		return scalar()
	case reflect.TypeFor[http.Body]():
		return oneOf(&jsonschema.Schema{Type: "object"}, &jsonschema.Schema{Type: "array"}, &jsonschema.Schema{Type: "string"})
	case reflect.TypeFor[http.Match]():
		return oneOf(append(scalar().OneOf, listOf(scalar()))...)
	case reflect.TypeFor[http.Statuses]():
		status := []*jsonschema.Schema{{Type: "integer", Minimum: "100", Maximum: "999"}, {Type: "string", Pattern: statusPattern}}
		return oneOf(append(status, listOf(oneOf(status...)))...)
	}
	return nil
}

// withParameters lets the block of kind http have the keys that it declares itself.
func withParameters(s *jsonschema.Schema) {
	known := &jsonschema.Schema{}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		known.Enum = append(known.Enum, p.Key)
	}
	s.AdditionalProperties = scalar()
	s.If = &jsonschema.Schema{Required: []string{"parameters"}}
	s.Then = &jsonschema.Schema{PropertyNames: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{known, {Pattern: ownPattern}}}}
	s.Else = &jsonschema.Schema{PropertyNames: known}
	get := func(key string) *jsonschema.Schema {
		p, ok := s.Properties.Get(key)
		if !ok {
			panic("schemagen: a document has no " + key)
		}
		return p
	}
	for _, key := range []string{"parameters", "recipient"} {
		get(key).PropertyNames = &jsonschema.Schema{Pattern: ownPattern}
	}
	parameters := get("parameters")
	parameters.AdditionalProperties = oneOf(append(scalar().OneOf, parameters.AdditionalProperties)...)
	get("dedup").OneOf[0].Pattern = dedupPattern
	one, least := uint64(1), json.Number("1")
	get("auth").MaxProperties = &one
	limit := get("limits").Items
	limit.AnyOf = []*jsonschema.Schema{{Required: []string{"characters"}}, {Required: []string{"bytes"}}}
	for _, key := range []string{"characters", "bytes"} {
		if p, ok := limit.Properties.Get(key); ok {
			p.Minimum = least
		}
	}
	if header, ok := get("outcomes").Items.Properties.Get("header"); ok { // headers are texts
		text := oneOf(&jsonschema.Schema{Type: "string"}, reference)
		header.AdditionalProperties = oneOf(append(slices.Clone(text.OneOf), listOf(text))...)
	}
	isText := &jsonschema.Schema{Required: []string{"content"}, Properties: jsonschema.NewProperties()}
	isText.Properties.Set("content", &jsonschema.Schema{Const: "text"})
	s.AllOf = []*jsonschema.Schema{{If: isText, Else: &jsonschema.Schema{Required: []string{"body"}}}}
	after := get("retry_after")
	after.OneOf = []*jsonschema.Schema{{Required: []string{"header"}}, {Required: []string{"json"}}}
}

// ofPreset describes the parameters of a preset.
func ofPreset(d *http.Document) *jsonschema.Schema {
	s := &jsonschema.Schema{Description: d.About, Properties: jsonschema.NewProperties()}
	for _, name := range slices.Sorted(maps.Keys(d.Parameters)) {
		p := d.Parameters[name]
		if p.Required && p.Default.Reveal() == "" {
			s.Required = append(s.Required, name)
		}
		s.Properties.Set(name, ofParameter(p))
	}
	return s
}

// ofParameter describes what may be written for a parameter. A reference's value is a text, so a text that
// reads as the number or boolean is fine too.
func ofParameter(p http.Parameter) *jsonschema.Schema {
	s := &jsonschema.Schema{Description: p.About}
	text := &jsonschema.Schema{Type: "string", Pattern: anchored(p)}
	switch p.Type {
	case "int":
		if text.Pattern == "" {
			text.Pattern = `^-?[0-9]+$`
		}
		s.OneOf = []*jsonschema.Schema{integer(p.Pattern), text, reference}
	case "bool":
		s.OneOf = []*jsonschema.Schema{{Type: "boolean"}, {Type: "string", Enum: []any{"true", "false"}}, reference}
	case "url":
		if text.Pattern == "" {
			text.Pattern = urlPattern
		}
		s.OneOf = []*jsonschema.Schema{text, reference}
	default:
		if words.MatchString(p.Pattern) {
			text = &jsonschema.Schema{Type: "string"}
			for word := range strings.SplitSeq(p.Pattern, "|") {
				text.Enum = append(text.Enum, word)
			}
		}
		if one := uint64(1); p.Required && text.Pattern == "" && text.Enum == nil {
			text.MinLength = &one
		}
		s.OneOf = []*jsonschema.Schema{text, reference}
		// A number stands for the text of its digits where the pattern takes that.
		if whole := regexp.MustCompile("^(?:" + p.Pattern + ")$"); p.Type != "secret" && p.Pattern != "" && whole.MatchString("1234567890") {
			s.OneOf = []*jsonschema.Schema{text, {Type: "integer"}, reference}
		}
	}
	if value := p.Default.Reveal(); value != "" && !strings.Contains(value, "$(") {
		s.Default = plain(p.Type, value)
	}
	return s
}

// words are patterns that list all values there are.
var words = regexp.MustCompile(`^[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)+$`)

// anchored is a parameter's pattern as JSON Schema has it; empty: none, or one that only RE2 knows.
func anchored(p http.Parameter) string {
	if p.Pattern == "" || strings.Contains(p.Pattern, "(?") || strings.Contains(p.Pattern, `\z`) {
		return ""
	}
	return "^(" + p.Pattern + ")$"
}

// integer describes whole numbers. JSON Schema holds patterns against texts alone: where few numbers match,
// they are listed.
func integer(pattern string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "integer"}
	if pattern == "" {
		return s
	}
	whole := regexp.MustCompile("^(?:" + pattern + ")$")
	var all []any
	for n := -100; n <= 1000; n++ {
		if whole.MatchString(strconv.Itoa(n)) {
			all = append(all, n)
		}
	}
	if len(all) <= 20 {
		s.Enum = all
	}
	return s
}

// plain is a default as JSON has it.
func plain(kind, value string) any {
	switch kind {
	case "int":
		return json.Number(value)
	case "bool":
		return value == "true"
	}
	return value
}
