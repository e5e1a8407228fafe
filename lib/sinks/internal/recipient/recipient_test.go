package recipient

import (
	"strings"
	"testing"

	"backstop/lib/sinks"
)

func TestDecodeIsStrict(t *testing.T) {
	for _, c := range []struct {
		raw, value string
		given      bool
		field      string // of the error; empty for none
	}{
		{raw: ""},
		{raw: " \n"},
		{raw: "null"},
		{raw: "{}", given: true},
		{raw: `{"to":""}`, given: true},
		{raw: ` {"to":"a"} `, value: "a", given: true},
		{raw: `{"to":null}`, field: "recipient.to: "},
		{raw: `{"to":["a"]}`, field: "recipient.to: "},
		{raw: `{"To":"a"}`, field: "recipient.To: "},
		{raw: `{"to":"a","cc":"b"}`, field: "recipient.cc: "},
		{raw: `{"\r\n":"b"}`, field: `recipient.\r\n: `},
		{raw: `"a"`, field: "recipient: "},
		{raw: `[]`, field: "recipient: "},
		{raw: `{"to":"a"}{}`, field: "recipient: "},
		{raw: `{`, field: "recipient: "},
	} {
		value, given, err := Decode([]byte(c.raw), "to")
		switch {
		case c.field == "" && err != nil:
			t.Errorf("Decode(%q): %v", c.raw, err)
		case c.field != "" && (sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), c.field)):
			t.Errorf("Decode(%q): %v, want %s naming %q", c.raw, err, sinks.CodeInvalidArgument, c.field)
		case value != c.value || given != c.given && err == nil:
			t.Errorf("Decode(%q) = %q, %v, want %q, %v", c.raw, value, given, c.value, c.given)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "null", "{}", `{"to":"a"}`, `{"to":1}`, `{"x":"a"}`, "[", `"\ud800"`, `{"\u0000":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _, err := Decode(raw, "to")
		if err != nil && sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("Decode(%q): %v, want %s", raw, err, sinks.CodeInvalidArgument)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("Decode(%q): an error of %d bytes", raw, len(err.Error()))
		}
	})
}
