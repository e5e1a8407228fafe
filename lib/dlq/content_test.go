package dlq_test

import (
	"encoding/json"
	"regexp"
	"testing"

	"backstop/lib/dlq"
)

func TestContentFingerprintTellsContentsApart(t *testing.T) {
	type content struct {
		to            string
		subject, body string
		metadata      map[string]string
	}
	of := func(c content) string {
		return dlq.ContentFingerprint(json.RawMessage(c.to), c.subject, c.body, c.metadata)
	}
	same := [][2]content{
		{{to: ""}, {to: "null"}},
		{{to: ""}, {to: " null "}},
		{{metadata: nil}, {metadata: map[string]string{}}},
		{{to: `{"a":1,"b":[2,{"c":3,"d":4}]}`}, {to: " {\"b\" : [2, {\"d\":4,\t\"c\":3}],\n\"a\":1} "}},
		{{to: `{"address":"a@b"}`}, {to: `{"\u0061ddress":"a\u0040b"}`}},
		{{to: `{"address": broken`}, {to: `"{\"address\": broken"`}}, // as Push stores it
	}
	for _, p := range same {
		if of(p[0]) != of(p[1]) {
			t.Errorf("%+v and %+v have different fingerprints", p[0], p[1])
		}
	}
	all := []content{
		{},
		{subject: "a"},
		{body: "a"},
		{subject: "a", body: "a"},
		{subject: "aa"},
		{body: "aa"},
		{subject: "1:a"},
		{body: "1:a"},
		{subject: "0:1:a"},
		{metadata: map[string]string{"a": ""}},
		{metadata: map[string]string{"": "a"}},
		{metadata: map[string]string{"a": "b"}},
		{metadata: map[string]string{"a": "b", "c": "d"}},
		{metadata: map[string]string{"a": "d", "c": "b"}},
		{metadata: map[string]string{"ab": "cd"}},
		{body: "\xff"},
		{body: "\xfe"},
		{body: "\uFFFD"},
		{subject: "\xff"},
		{metadata: map[string]string{"\xff": ""}},
		{metadata: map[string]string{"\xfe": ""}},
		{to: "9007199254740993"},
		{to: "9007199254740992"},
		{to: "1"},
		{to: "1.0"},
		{to: "1e0"},
		{to: `"1"`},
		{to: "-0"},
		{to: "0"},
		{to: "true"},
		{to: "false"},
		{to: `"true"`},
		{to: `"null"`},
		{to: `""`},
		{to: "{}"},
		{to: "[]"},
		{to: "[null]"},
		{to: "[[]]"},
		{to: "[[],[]]"},
		{to: `[""]`},
		{to: "[1,2]"},
		{to: "[2,1]"},
		{to: "[12]"},
		{to: `["1","2"]`},
		{to: `["1,2"]`},
		{to: `{"a":null}`},
		{to: `{"a":1}`},
		{to: `{"A":1}`},
		{to: `{"a":1,"a":2}`},
		{to: `{"a":2,"a":1}`},
		{to: `{"a":2}`},
		{to: `{"a":1,"a":1}`},
		{to: `{"a":{"b":1}}`},
		{to: `{"a":["b",1]}`},
		{to: `["a",1]`},
		{to: "\"\xff\""},
		{to: "\"\xfe\""},
		{to: `"\ud800"`},
		{to: `"\ud801"`},
		{to: "\"\uFFFD\""},
		{to: "{\"\xff\":1}"},
		{to: "{\"\xfe\":1}"},
		{to: "broken \xff"},
		{to: "broken \xfe"},
		{to: " "},
	}
	seen := map[string]content{}
	for _, c := range all {
		fp := of(c)
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(fp) {
			t.Errorf("%+v: fingerprint %q", c, fp)
		}
		if other, ok := seen[fp]; ok {
			t.Errorf("%+v and %+v have the same fingerprint", other, c)
		}
		seen[fp] = c
	}
}

// TestContentFingerprintIsStable fails when a change of the code would take everything that
// is stored for other content.
func TestContentFingerprintIsStable(t *testing.T) {
	got := dlq.ContentFingerprint(json.RawMessage(`{"b":[1,"x",null,true],"a":{}}`), "s", "b", map[string]string{"k": "v", "a": "b"})
	if want := "6K2my48cm1XvP0N2AYLzkw"; got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
}
