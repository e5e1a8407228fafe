package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"strings"
	"testing"
)

func b64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 8291, section 5: with its key and salt, its message is the RFC's, byte for byte.
func TestTheRFCsExampleIsEncryptedAsItSays(t *testing.T) {
	sender, err := ecdh.P256().NewPrivateKey(b64(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	browser, err := ecdh.P256().NewPublicKey(b64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := encrypt([]byte("When I grow up, I want to be a watermelon"), browser, b64(t, "BTBZMqHH6r4Tts7J_aSIgg"), sender, b64(t, "DGv6ra1nlYgDCS1FRnbzlw"))
	if err != nil {
		t.Fatal(err)
	}
	want := b64(t, "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	if !bytes.Equal(got, want) {
		t.Errorf("the message is\n%x, want\n%x", got, want)
	}
}

// The longest message fills the record that every push service takes, to the byte, and no two are
// encrypted alike.
func TestTheLongestMessageFillsTheRecord(t *testing.T) {
	browser, err := ecdh.P256().NewPublicKey(b64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"))
	if err != nil {
		t.Fatal(err)
	}
	if maxPlain != 3993 {
		t.Errorf("a message may have %d bytes, want RFC 8291's 3993", maxPlain)
	}
	to := subscription{key: browser, auth: b64(t, "BTBZMqHH6r4Tts7J_aSIgg")}
	plain := []byte(strings.Repeat("x", maxPlain))
	first, err := encryptFor(to, plain)
	if err != nil {
		t.Fatal(err)
	}
	second, err := encryptFor(to, plain)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 4096 {
		t.Errorf("a message of %d bytes has %d encrypted, want 4096", len(plain), len(first))
	}
	if bytes.Equal(first[:saltBytes], second[:saltBytes]) || bytes.Equal(first[21:86], second[21:86]) {
		t.Error("two messages share their salt or key")
	}
	if strings.Trim(string(plain), "x") != "" {
		t.Error("the message was changed")
	}
}
