package kinds

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"backstop/lib/sinks/http"
)

// answers says in words what a document makes of answers.
func answers(d *http.Document) []Answer {
	var all []Answer
	delivers := false
	for _, o := range d.Outcomes {
		delivers = delivers || o.Then == "delivered"
		all = append(all, Answer{condition(o), o.Then})
	}
	success := Answer{"2xx", "delivered"}
	if delivers {
		success = Answer{"any other 2xx", "ambiguous"}
	}
	later := "408, 421, 425, 429, 5xx, and 403 and 413 with `Retry-After`"
	if r := d.RetryAfter; r != nil {
		later += fmt.Sprintf("; `%s` says when to come again", r.Header+r.JSON)
	}
	return append(all, success, Answer{later, "transient"}, Answer{"anything else", "terminal"})
}

// condition says in words what an outcome's line asks for.
func condition(o http.Outcome) string {
	text := o.Status.String()
	if text == "" {
		text = "any status"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		parts = append(parts, fmt.Sprintf("header `%s` %s", name, match(o.Header[name])))
	}
	for _, at := range slices.Sorted(maps.Keys(o.JSON)) {
		parts = append(parts, fmt.Sprintf("`%s` %s", at, match(o.JSON[at])))
	}
	if len(parts) == 0 {
		return text
	}
	return text + " with " + strings.Join(parts, " and ")
}

// match says in words what a value must be.
func match(m http.Match) string {
	text := m.String()
	if strings.HasPrefix(text, "`") {
		text = "= " + text
	}
	return text
}

// limits says in words what is refused.
func limits(d *http.Document) []string {
	var all []string
	for _, l := range d.Limits {
		of := words(l.Of)
		if of == "" {
			of = "The request's body"
		}
		if l.Characters > 0 {
			all = append(all, fmt.Sprintf("%s: %s characters", of, thousands(l.Characters)))
		}
		if l.Bytes > 0 {
			all = append(all, fmt.Sprintf("%s: %s bytes", of, thousands(l.Bytes)))
		}
	}
	return all
}

var placeholder = regexp.MustCompile(`\$\(([^):]+)[^)]*\)`)

// words names what the placeholders of a text read.
func words(s string) string {
	var all []string
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		name := "`" + strings.ReplaceAll(m[1], "|", "`, else `") + "`"
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return strings.Join(all, " with ")
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Duplicates says in words whether a second copy is recognised.
func (k *Kind) Duplicates() string {
	switch k.Dedup {
	case "":
		return "not recognised"
	case "forever":
		return "recognised"
	}
	if strings.Contains(k.Dedup, " ") {
		return k.Dedup
	}
	return "recognised for " + k.Dedup
}

// Recipients lists the fields of a recipient, those that are optional in brackets; empty: there are none.
func (k *Kind) Recipients() string {
	if k.Sample != "" {
		return "as its block says"
	}
	var all []string
	for _, f := range k.Recipient {
		name := f.Name
		if !f.Required {
			name = "[" + name + "]"
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}
