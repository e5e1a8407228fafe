package replay

import (
	"bytes"
	"strings"
	"testing"
)

func TestWhoseDeadLettersAreErased(t *testing.T) {
	for _, tt := range []struct {
		address, recipient string
		want               bool
	}{
		{"ada@example.com", `{"address":"ada@example.com"}`, true},
		{" Ada@Example.COM\n", `{"address":"ada@example.com"}`, true},
		{"ada@example.com", `{"address":"\tADA@EXAMPLE.COM "}`, true},
		{"ada@example.com", `{"to":[{"cc":[1,true,null,{"x":"ada@example.com"}]}]}`, true},
		{"ada@example.com", `"ada@example.com"`, true},
		{"ada@example.com", `{"address":"\u0061da@example.com"}`, true},
		{"STRASSE@EXAMPLE.COM", `"straſſe@example.com"`, true}, // ſ differs from s in case alone
		{"Kelvin@example.com", `"\u212Aelvin@example.com"`, true},
		{"ΣΊΣΥΦΟΣ", `"σίσυφος"`, true},
		{"ada@example.com", `ada@example.com`, true}, // no JSON
		{"+41 79", `{"phone":"+41 79"}`, true},

		{"ada@example.com", ``, false},
		{"ada@example.com", `null`, false},
		{"ada@example.com", `{"ada@example.com":"x"}`, false}, // a name
		{"ada@example.com", `{"address":"Ada <ada@example.com>"}`, false},
		{"ada@example.com", `{"address":"xada@example.com"}`, false},
		{"ada@example.com", `{"address":"ada@example.com."}`, false},
		{"straße@example.com", `"strasse@example.com"`, false}, // another address
		{"7", `{"id":7}`, false},
	} {
		if got := hashRecipient(tt.address).has([]byte(tt.recipient)); got != tt.want {
			t.Errorf("%q in %s: got %t, want %t", tt.address, tt.recipient, got, tt.want)
		}
		if folded := strings.EqualFold(strings.TrimSpace(tt.address), strings.Trim(tt.recipient, `"`)); folded && !tt.want {
			t.Errorf("%q in %s: strings.EqualFold says they are equal", tt.address, tt.recipient)
		}
	}
}

func TestEachErasureHasAKeyOfItsOwn(t *testing.T) {
	a, b := hashRecipient("ada@example.com"), hashRecipient("ada@example.com")
	if bytes.Equal(a.Key, b.Key) || bytes.Equal(a.Hash, b.Hash) {
		t.Error("two erasures of one recipient can be told to be of the same")
	}
}
