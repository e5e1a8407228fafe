package kinds

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Key is a key of a sink's block, or a field of a recipient.
type Key struct {
	Name     string `json:"key"`
	Type     string `json:"type"` // in words; secrets are "secret", or named so
	Required bool   `json:"required,omitempty"`
	Default  string `json:"default,omitempty"` // empty: none
	Pattern  string `json:"pattern,omitempty"` // of the whole value; empty: any
	About    string `json:"about,omitempty"`
	// Example is a value for samples, as YAML in a line. Empty: none.
	Example string `json:"-"`
	// With is another key, which has to come with it.
	With string `json:"with,omitempty"`

	generate func() (string, error) // makes an example; nil: Example is one
}

// Secret reports whether a key's value is one, or holds one.
func (k Key) Secret() bool { return strings.Contains(k.Type, "secret") }

// inDefault finds other keys in a default.
var inDefault = regexp.MustCompile(`\$\([^)]*\)`)

// choices are patterns that list all values that there are.
var choices = regexp.MustCompile(`^[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)+$`)

// Choices are the values that a key can have; nil: too many to say.
func (k Key) Choices() []string {
	switch {
	case k.Type == "bool":
		return []string{"true", "false"}
	case choices.MatchString(k.Pattern):
		return strings.Split(k.Pattern, "|")
	}
	return nil
}

// Unsaid are the Choices, where About does not name them all; nil: it does.
func (k Key) Unsaid() []string {
	all := k.Choices()
	if k.Type == "bool" || !slices.ContainsFunc(all, func(word string) bool { return !strings.Contains(k.About, word) }) {
		return nil
	}
	return all
}

// sample is a value for a block: the default, an example, or one of the choices.
func (k Key) sample() (string, error) {
	if k.generate != nil {
		text, err := k.generate()
		return literal(text), err
	}
	return k.written(), nil
}

func (k Key) written() string {
	switch {
	case k.Default != "" && !k.Required:
		return scalar(k.Type, inDefault.ReplaceAllString(k.Default, "replace-me"))
	case k.Example != "":
		return k.Example
	case k.Choices() != nil:
		return scalar(k.Type, k.Choices()[0])
	case k.Type == "url":
		return "https://replace-me.example.org"
	case k.Type == "int":
		return "1"
	}
	return "replace-me"
}

// scalar writes a value as YAML; a text that looks like something else is quoted.
func scalar(kind, value string) string {
	if kind == "int" || kind == "bool" {
		return value
	}
	b, err := yaml.Marshal(value)
	if err != nil {
		panic(err) // a text
	}
	return strings.TrimSuffix(string(b), "\n")
}

// value is the example, or else the default, as JSON; nil: there is none.
func (k Key) value() (json.RawMessage, error) {
	var v any = k.Default
	if k.Example != "" {
		if err := yaml.Unmarshal([]byte(k.Example), &v); err != nil {
			return nil, err
		}
	}
	if v == "" {
		return nil, nil
	}
	return json.Marshal(v)
}
