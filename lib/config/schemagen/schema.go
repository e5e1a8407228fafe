package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"backstop/lib/config"
	"backstop/lib/sinks"
	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/fcm"
	"backstop/lib/sinks/http"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
	"backstop/lib/sinks/webpush"
)

// The kinds that are Go, by the struct that their factory decodes. Presets are kinds as well, each with
// the parameters that its document declares.
var kinds = map[string]any{
	apns.Kind:    &apns.Config{},
	email.Kind:   &email.Config{},
	fcm.Kind:     &fcm.Config{},
	http.Kind:    &http.Document{},
	slack.Kind:   &slack.Config{},
	webhook.Kind: &webhook.Config{},
	webpush.Kind: &webpush.Config{},
}

const (
	durationPattern  = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
	parameterPattern = `^/[A-Za-z0-9_./-]+(:[A-Za-z0-9_.-]+)?$`
	namePattern      = `^[a-z0-9][a-z0-9._-]{0,63}$`
)

// generate returns the schema: one sink's block, or a document of several.
func generate() ([]byte, error) {
	r, err := reflector()
	if err != nil {
		return nil, err
	}
	// The encoder escapes nothing here, but the schema's own MarshalJSON does.
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	d, err := document(r)
	if err != nil {
		return nil, err
	}
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	return []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(b.String())), nil
}

// reflector describes fields by their Go comments.
func reflector() (*jsonschema.Reflector, error) {
	r := &jsonschema.Reflector{
		Anonymous: true, DoNotReference: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case reflect.TypeFor[time.Duration]():
				return &jsonschema.Schema{Type: "string", Pattern: durationPattern}
			case reflect.TypeFor[sinks.Secret]():
				return &jsonschema.Schema{Type: "string"}
			}
			return ofDocument(t)
		},
	}
	const folder = "lib/sinks"
	webhooks := reflect.TypeFor[webhook.Config]().PkgPath()
	module, _, _ := strings.Cut(webhooks, "/"+folder)
	if err := r.AddGoComments(module, folder, jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("reading the kinds' source (run in the module's root): %w", err)
	}
	if r.CommentMap[webhooks+".Config.URL"] == "" {
		return nil, fmt.Errorf("no comments found: run in the module's root")
	}
	return r, nil
}

func document(r *jsonschema.Reflector) (*jsonschema.Schema, error) {
	definitions := jsonschema.Definitions{
		"reference": {
			Type: "object", Description: "The value of a parameter in SSM Parameter Store.",
			Properties: jsonschema.NewProperties(), Required: []string{"ssm"}, AdditionalProperties: jsonschema.FalseSchema,
		},
	}
	definitions["reference"].Properties.Set("ssm", &jsonschema.Schema{Type: "string", Pattern: parameterPattern})
	common := r.Reflect(&config.Common{})
	for p := common.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key != "kind" {
			definitions[p.Key] = orOff(p.Key, p.Value)
		}
	}

	sink, known := &jsonschema.Schema{}, &jsonschema.Schema{}
	for _, kind := range slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(kinds)), http.Presets()))) {
		known.Enum = append(known.Enum, kind)
		own, err := ofKind(r, kind)
		if err != nil {
			return nil, err
		}
		definitions[kind] = block(kind, own, common)
		sink.OneOf = append(sink.OneOf, &jsonschema.Schema{Ref: "#/$defs/" + kind})
	}
	definitions["custom"] = custom(known)
	sink.OneOf = append(sink.OneOf, &jsonschema.Schema{Ref: "#/$defs/custom"})
	definitions["sink"] = sink

	several := &jsonschema.Schema{
		Type: "object", Description: "Several sinks by name.",
		Properties: jsonschema.NewProperties(), Required: []string{"sinks"}, AdditionalProperties: jsonschema.FalseSchema,
	}
	several.Properties.Set("sinks", &jsonschema.Schema{
		Type: "object", PropertyNames: &jsonschema.Schema{Pattern: namePattern},
		AdditionalProperties: &jsonschema.Schema{Ref: "#/$defs/sink"},
	})
	return &jsonschema.Schema{
		Version: jsonschema.Version, Title: "Backstop sink configuration",
		OneOf:       []*jsonschema.Schema{{Ref: "#/$defs/sink"}, several},
		Definitions: definitions,
	}, nil
}

// ofKind returns the schema of a kind's own keys.
func ofKind(r *jsonschema.Reflector, kind string) (*jsonschema.Schema, error) {
	if decoded, ok := kinds[kind]; ok {
		return r.Reflect(decoded), nil
	}
	_, d, err := http.Preset(kind)
	if err != nil {
		return nil, fmt.Errorf("preset %s: %w", kind, err)
	}
	return ofPreset(&d), nil
}

// block returns the schema of one kind's block: its own keys and the common ones.
func block(kind string, own, common *jsonschema.Schema) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type: "object", Description: own.Description, Properties: jsonschema.NewProperties(),
		Required: append([]string{"kind"}, own.Required...), AdditionalProperties: jsonschema.FalseSchema,
	}
	s.Properties.Set("kind", &jsonschema.Schema{Const: kind, Description: "The sink's kind."})
	for p := own.Properties.Oldest(); p != nil; p = p.Next() {
		s.Properties.Set(p.Key, referable(p.Value))
	}
	for p := common.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Key != "kind" {
			s.Properties.Set(p.Key, &jsonschema.Schema{Ref: "#/$defs/" + p.Key})
		}
	}
	if kind == http.Kind {
		withParameters(s)
	}
	return s
}

// orOff lets a breaker be off.
func orOff(key string, s *jsonschema.Schema) *jsonschema.Schema {
	if key != "breaker" {
		return s
	}
	block := *s
	block.Description = ""
	return &jsonschema.Schema{Description: s.Description, OneOf: []*jsonschema.Schema{&block, {Const: "off"}, {Const: false}}}
}

// custom returns the schema of a kind that somebody else registered: nothing is known
// of its own keys.
func custom(known *jsonschema.Schema) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type: "object", Description: "A kind of your own.",
		Properties: jsonschema.NewProperties(), Required: []string{"kind"},
	}
	s.Properties.Set("kind", &jsonschema.Schema{Type: "string", Not: known})
	return s
}

// referable lets every text within s be a reference instead.
func referable(s *jsonschema.Schema) *jsonschema.Schema {
	switch {
	case s.Type == "string":
		plain := *s
		plain.Description = ""
		return &jsonschema.Schema{Description: s.Description, OneOf: []*jsonschema.Schema{&plain, {Ref: "#/$defs/reference"}}}
	case s.Items != nil:
		s.Items = referable(s.Items)
	case s.Type == "object" && s.Properties.Len() == 0 && s.AdditionalProperties != nil:
		s.AdditionalProperties = referable(s.AdditionalProperties)
	case s.Type == "object":
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			p.Value = referable(p.Value)
		}
	}
	return s
}
