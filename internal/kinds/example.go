package kinds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"backstop/lib/sinks"
)

// Width of the comments in examples.
const width = 100

// Example returns a block for a sink of the kind, with comments: required keys with placeholders for
// their values, the others commented out with their default.
func (k *Kind) Example() (string, error) {
	var b strings.Builder
	comment(&b, k.About)
	if k.Source.Page != "" {
		comment(&b, k.Source.Page)
	}
	b.WriteString("#\n# Fill in what says replace-me, or is an example: 'backstop config check' points at each. A secret can stay\n" +
		"# in a parameter of its own: {ssm: /backstop/prod/secrets/NAME}. 'backstop sink test NAME' shows what the\n" +
		"# sink sends. The keys of every kind (retry, replay, rate and more) are in docs/configuration.md.\n")
	if k.Sample != "" {
		b.WriteString(k.Sample)
	} else {
		fmt.Fprintf(&b, "kind: %s\n", k.Name)
		for _, key := range k.Keys {
			if !key.Required {
				continue
			}
			value, err := key.sample()
			if err != nil {
				return "", err
			}
			b.WriteString("\n")
			comment(&b, key.describe())
			fmt.Fprintf(&b, "%s: %s\n", key.Name, value)
		}
	}
	for _, key := range k.Keys {
		if !key.Required && !strings.Contains("\n"+k.Sample, "\n"+key.Name+":") {
			b.WriteString("\n")
			comment(&b, key.describe())
			fmt.Fprintf(&b, "#%s: %s\n", key.Name, key.written())
		}
	}
	if err := k.request(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// request shows a request, in a comment.
func (k *Kind) request(b *strings.Builder) error {
	if len(k.Recipient) > 0 {
		b.WriteString("\n# A recipient's fields:\n")
		for _, f := range k.Recipient {
			comment(b, "  "+f.Name+": "+f.describe())
		}
	}
	if len(k.Metadata) > 0 {
		b.WriteString("\n")
		comment(b, "Metadata that is used: "+strings.Join(k.Metadata, ", ")+".")
	}
	to, err := k.To()
	if err != nil {
		return err
	}
	m := k.Message()
	request := struct {
		Sink      string          `json:"sink"`
		Recipient json.RawMessage `json:"recipient,omitempty"`
		Message   struct {
			Subject string `json:"subject"`
			Body    string `json:"body"`
		} `json:"message"`
	}{Sink: "NAME", Recipient: to}
	request.Message.Subject, request.Message.Body = m.Subject, m.Body
	text, err := encoded(request)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n# A request:\n#   %s\n", text)
	return nil
}

// encoded is v as JSON, for people.
func encoded(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Message returns a message that the kind can send.
func (k *Kind) Message() sinks.Message {
	m := sinks.Message{Subject: "Order 42", Body: "It is on its way."}
	if k.parsesBody {
		m.Body = `{"order":42,"state":"shipped"}`
	}
	return m
}

// To returns a recipient that the kind takes, as JSON: with the fields that are required, or the first.
// Nil: the kind takes none.
func (k *Kind) To() (json.RawMessage, error) {
	if k.sampleTo != nil {
		return encoded(k.sampleTo)
	}
	to := map[string]json.RawMessage{}
	for i, f := range k.Recipient {
		if !f.Required && i > 0 {
			continue
		}
		value, err := f.value()
		if err != nil {
			return nil, err
		}
		if value != nil {
			to[f.Name] = value
		}
	}
	if len(to) == 0 {
		return nil, nil
	}
	return encoded(to)
}

// comment writes a text as lines of a comment. White space at its beginning is kept, and continued.
func comment(b *strings.Builder, text string) {
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	line := ""
	flush := func() {
		b.WriteString(strings.TrimRight("# "+indent+line, " ") + "\n")
		line = ""
	}
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(indent)+len(line)+len(word) > width {
			flush()
			indent += strings.Repeat(" ", min(2, len(indent)))
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}

// describe says what a key is, and what it takes.
func (k Key) describe() string {
	text := k.About
	add := func(s string) { text = strings.TrimSpace(text + " " + s) }
	if choices := k.Unsaid(); choices != nil {
		add("One of " + strings.Join(choices, ", ") + ".")
	}
	if k.Required {
		add("Required.")
	}
	if k.Secret() {
		add("A secret.")
	}
	if k.With != "" {
		add("With " + k.With + ".")
	}
	return text
}
