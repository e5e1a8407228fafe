// Package kinds says what each built-in kind of sink is: its keys, its recipients, and what it makes of
// answers. Presets say it themselves; of the kinds that are Go it is written in the folder described.
package kinds

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"backstop/lib/sinks/http"
)

//go:embed described/*.yaml
var described embed.FS

// Kind is a kind of sinks.
type Kind struct {
	Name string `json:"kind"`
	// About says in a line what it sends, and through what.
	About string `json:"about"`
	// Source is what its facts were read from. Its day may be missing.
	Source http.Source `json:"source"`
	// Notes are limits and their scope, duplicates, and what could not be confirmed.
	Notes []string `json:"notes,omitempty"`
	// Keys are the kind's own, as they are written.
	Keys []Key `json:"keys"`
	// Recipient holds the fields of a recipient. Nil: the kind takes none, or its block says which.
	Recipient []Key `json:"recipient,omitempty"`
	// Metadata are the keys of a message's metadata that the kind uses by name, sorted.
	Metadata []string `json:"metadata,omitempty"`
	// Answers say what answers mean; the first that holds decides.
	Answers []Answer `json:"answers"`
	// Limits are what is refused before it is sent.
	Limits []string `json:"limits,omitempty"`
	// Dedup is for how long the receiver recognises a message: a duration, forever, or words. Empty: never.
	Dedup string `json:"dedup,omitempty"`
	// RateBy is what rate and hold are counted by. Empty: the sink.
	RateBy string `json:"rate_by,omitempty"`
	// Sample is a block with all that it needs. Empty: its required keys are enough.
	Sample string `json:"-"`
	// Preset is the document of a kind without code.
	Preset *http.Document `json:"-"`

	sampleTo   map[string]string
	parsesBody bool // a message's body has to be JSON
}

// Answer is what an answer means.
type Answer struct {
	Answer string `json:"answer"`
	Means  string `json:"means"`
}

// Names returns the names of all kinds, sorted.
func Names() []string {
	names := http.Presets()
	files, err := fs.ReadDir(described, "described")
	if err != nil {
		panic(err) // it is part of the program
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
	}
	slices.Sort(names)
	return names
}

// All returns all kinds, sorted by name.
func All() ([]*Kind, error) {
	var all []*Kind
	for _, name := range Names() {
		k, err := Named(name)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// Named returns the kind of a name; fs.ErrNotExist where there is none.
func Named(name string) (*Kind, error) {
	k, err := preset(name)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = inGo(name)
	}
	if err != nil {
		return nil, fmt.Errorf("kind %s: %w", name, err)
	}
	return k, nil
}

// file is a file of the folder described.
type file struct {
	About      string
	Source     http.Source
	Notes      []string
	Parameters fields
	Recipient  fields
	Answers    []Answer
	Dedup      string
	RateBy     string `yaml:"rate_by"`
	Sample     string
	SampleTo   map[string]string `yaml:"sample_to"` // a recipient for Sample
}

// fields are keys in the order of the file.
type fields []Key

// field is a key as it is written.
type field struct {
	Type, Pattern, About, With string
	Required                   bool
	Default, Example           yaml.Node
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *fields) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want a mapping", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		var x field
		if err := n.Content[i+1].Decode(&x); err != nil {
			return err
		}
		k := Key{Name: n.Content[i].Value, Type: x.Type, Required: x.Required, Default: x.Default.Value, Pattern: x.Pattern, About: x.About, With: x.With}
		if k.Type == "" {
			k.Type = "text"
		}
		if !x.Example.IsZero() {
			text, err := inline(&x.Example)
			if err != nil {
				return err
			}
			k.Example = text
		}
		*f = append(*f, k)
	}
	return nil
}

// inline writes a value as YAML in a line.
func inline(n *yaml.Node) (string, error) {
	flow := *n
	if n.Kind != yaml.ScalarNode {
		flow.Style = yaml.FlowStyle
	}
	b, err := yaml.Marshal(&flow)
	return strings.TrimSuffix(string(b), "\n"), err
}

func inGo(name string) (*Kind, error) {
	text, err := described.ReadFile("described/" + name + ".yaml")
	if err != nil {
		return nil, fs.ErrNotExist
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	for i, key := range f.Parameters {
		f.Parameters[i].generate = generated[name+"."+key.Name]
	}
	return &Kind{
		Name: name, About: f.About, Source: f.Source, Notes: f.Notes, Keys: f.Parameters, Recipient: f.Recipient, Answers: f.Answers,
		Dedup: f.Dedup, RateBy: f.RateBy, Sample: f.Sample, sampleTo: f.SampleTo,
	}, nil
}

func preset(name string) (*Kind, error) {
	text, d, err := http.Preset(name)
	if err != nil {
		return nil, err
	}
	var written struct{ Parameters, Recipient fields } // in its order
	if err := yaml.Unmarshal(text, &written); err != nil {
		return nil, err
	}
	k := &Kind{
		Name: name, About: d.About, Source: d.Source, Notes: d.Notes, Keys: written.Parameters, Recipient: written.Recipient,
		Answers: answers(&d), Limits: limits(&d), Dedup: d.Dedup, RateBy: words(d.RateBy.Reveal()), Preset: &d,
	}
	seen := map[string]bool{}
	for _, m := range metadata.FindAllSubmatch(text, -1) {
		seen[string(m[1])] = true
	}
	k.Metadata = slices.Sorted(maps.Keys(seen))
	k.parsesBody = strings.Contains(string(text), "$(body:json)")
	return k, nil
}

// metadata finds the keys that a document reads.
var metadata = regexp.MustCompile(`[(|]metadata\.([A-Za-z0-9_-]+)`)
