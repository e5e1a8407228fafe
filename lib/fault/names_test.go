package fault

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The checks by hand say what the expressions that errors show would say.
func TestNamesAndIDsMatchTheirForms(t *testing.T) {
	name, id := regexp.MustCompile(nameForm), regexp.MustCompile(idForm)
	texts := []string{"", "a", "0", ".", "-", "_", strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("x", 128), strings.Repeat("x", 129), "ä", "a\n", "a\xff"}
	for r := range rune(utf8.RuneSelf + 2) {
		texts = append(texts, string(r), "a"+string(r), string(r)+"a", "a"+string(r)+"b")
	}
	for _, s := range texts {
		if got, want := CheckName(s) == nil, name.MatchString(s); got != want {
			t.Errorf("name %q: %v, want %v", s, got, want)
		}
		if got, want := CheckID(s) == nil, id.MatchString(s); got != want {
			t.Errorf("id %q: %v, want %v", s, got, want)
		}
	}
}
