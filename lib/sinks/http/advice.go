package http

import (
	"maps"
	"slices"

	"backstop/lib/sinks"
)

// Advice names the parameters whose value is the document's example. Nothing else of a sink is valid
// and hardly meant.
func (s *Sink) Advice() []*sinks.ConfigError {
	var all []*sinks.ConfigError
	for _, name := range s.examples {
		all = append(all, &sinks.ConfigError{Key: name, Hint: "the example of the documentation: put your own value here", Placeholder: true})
	}
	return all
}

// examples returns the parameters whose given value is their example. Those that may be left out are
// asked about where nobody else can have their value: secrets and URLs.
func (c *compiler) examples(given map[string]any) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, ok := c.doc.Parameters[name]
		example := p.Example.Reveal()
		if ok && example != "" && c.values[name] == example && (p.Required || p.Type == typeSecret || p.Type == typeURL) {
			all = append(all, name)
		}
	}
	return all
}
