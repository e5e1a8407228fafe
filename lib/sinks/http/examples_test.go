package http

import "testing"

// What a preset shows as a value, and what it takes where none is given, is a value that it takes.
func TestExamplesAndDefaultsMatchTheirPatterns(t *testing.T) {
	check := func(t *testing.T, name, what, pattern, value string) {
		t.Helper()
		re, err := compile(pattern)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if value != "" && !matches(re, value) {
			t.Errorf("the %s of %s, %q, does not match %s", what, name, value, pattern)
		}
	}
	for _, kind := range Presets() {
		t.Run(kind, func(t *testing.T) {
			_, doc, err := Preset(kind)
			if err != nil {
				t.Fatal(err)
			}
			for name, p := range doc.Parameters {
				check(t, name, "example", p.Pattern, p.Example.Reveal())
				check(t, name, "default", p.Pattern, p.Default.Reveal())
			}
			for name, f := range doc.Recipient {
				check(t, "recipient."+name, "example", f.Pattern, f.Example)
				check(t, "recipient."+name, "default", f.Pattern, f.Default)
			}
		})
	}
}
