package kinds

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"

	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/fcm"
	"backstop/lib/sinks/http"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
	"backstop/lib/sinks/webpush"
)

// decoded are the structs that the kinds in Go decode, and their recipients.
var decoded = map[string]struct{ config, recipient any }{
	apns.Kind:    {apns.Config{}, apns.Recipient{}},
	email.Kind:   {email.Config{}, email.Recipient{}},
	fcm.Kind:     {fcm.Config{}, fcm.Recipient{}},
	http.Kind:    {http.Document{}, struct{}{}},
	slack.Kind:   {slack.Config{}, struct{}{}},
	webhook.Kind: {webhook.Config{}, webhook.Recipient{}},
	webpush.Kind: {webpush.Config{}, webpush.Recipient{}},
}

// tags are the JSON names of a struct's fields, sorted, and those that must be given.
func tags(v any) (all, required []string) {
	for f := range reflect.TypeOf(v).Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if all = append(all, name); option == "" {
			required = append(required, name)
		}
	}
	slices.Sort(all)
	slices.Sort(required)
	return all, required
}

func namesOf(keys []Key) (all, required []string) {
	for _, k := range keys {
		if all = append(all, k.Name); k.Required {
			required = append(required, k.Name)
		}
	}
	slices.Sort(all)
	slices.Sort(required)
	return all, required
}

// What is written of the kinds in Go is what they decode.
func TestTheDescribedKeysAreThoseThatAreDecoded(t *testing.T) {
	inGo := 0
	for _, name := range Names() {
		k, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if k.Preset != nil {
			continue
		}
		inGo++
		d, ok := decoded[name]
		if !ok {
			t.Errorf("%s is described, and this test does not know what it decodes", name)
			continue
		}
		for what, pair := range map[string]struct {
			keys    []Key
			decoded any
		}{"keys": {k.Keys, d.config}, "recipient": {k.Recipient, d.recipient}} {
			all, required := namesOf(pair.keys)
			wantAll, wantRequired := tags(pair.decoded)
			if !slices.Equal(all, wantAll) {
				t.Errorf("%s, %s: %v are described, %v are decoded", name, what, all, wantAll)
			}
			if name == http.Kind {
				wantRequired = []string{"body", "url"} // a body may be left out for texts
			}
			if what == "keys" && !slices.Equal(required, wantRequired) {
				t.Errorf("%s: %v are described as required, %v are", name, required, wantRequired)
			}
		}
	}
	if inGo != len(decoded) {
		t.Errorf("%d kinds in Go are described, want %d", inGo, len(decoded))
	}
}

func TestEachKindSaysWhatItIs(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if k.About == "" || !strings.HasSuffix(k.About, ".") && k.Preset == nil {
			t.Errorf("%s is %q", k.Name, k.About)
		}
		for _, key := range append(slices.Clone(k.Keys), k.Recipient...) {
			if key.About == "" || key.Required && key.Example == "" && key.generate == nil {
				t.Errorf("%s: %s says not what it is, or has no example: %+v", k.Name, key.Name, key)
			}
		}
	}
	if _, err := Named("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a kind that does not exist: %v", err)
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		"$(recipient.chat_id|chat_id)": "`recipient.chat_id`, else `chat_id`", "$(subject:opt)\n$(body)": "`subject` with `body`", "fixed": "",
	} {
		if got := words(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	for n, want := range map[int]string{7: "7", 4096: "4,096", 40000: "40,000", 1234567: "1,234,567", 100: "100"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
	var b strings.Builder
	comment(&b, "  field: "+strings.Repeat("word ", 30))
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if len(line) > width+4 || i > 0 && !strings.HasPrefix(line, "#     word") {
			t.Errorf("line %q", line)
		}
	}
}
