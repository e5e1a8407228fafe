package http

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The example of a document is nobody's value: where it is left in place, Advice says so.
func TestAnExampleLeftInPlaceIsAdvised(t *testing.T) {
	d, err := Parse([]byte(`
parameters:
  token: {type: secret, required: true, example: abc}
  room: {required: true, example: lobby}
  key: {type: secret, example: k}
  link: {type: url, example: "https://x.test/a"}
  color: {example: red}
  level: {required: true, default: low, example: high}
url: https://x.test
body: {a: $(token), b: $(room), c: "$(key:opt)", d: "$(link:opt)", e: "$(color:opt)", f: $(level)}
`))
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		`{token: abc, room: lobby, key: k, link: "https://x.test/a", color: red, level: high}`: "key level link room token",
		`{token: mine, room: mine}`: "",
	} {
		var values map[string]any
		if err := yaml.Unmarshal([]byte(given), &values); err != nil {
			t.Fatal(err)
		}
		s, err := New("s", d, values, nil)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, a := range s.Advice() {
			if keys = append(keys, a.Key); !a.Placeholder || strings.Contains(a.Msg, "abc") {
				t.Errorf("%+v", a)
			}
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s: advised %q, want %q", given, got, want)
		}
	}
}

func TestOutcomesInWords(t *testing.T) {
	d, err := Parse([]byte("outcomes:\n  - {status: [200, 4xx, 503], json: {$.a: present, $.b: [true, \"a<b\", 7]}, then: gone}\n  - {then: terminal}\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := d.Outcomes[0]
	got := []string{o.Status.String(), o.JSON["$.a"].String(), o.JSON["$.b"].String(), d.Outcomes[1].Status.String()}
	if want := []string{"200, 4xx, 503", "there", "`true` or `\"a<b\"` or `7`", ""}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}
