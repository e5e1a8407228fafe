package strictjson_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/strictjson"
)

type base struct {
	Base int `json:"base"`
}

type document struct {
	base2
	Sink    string          `json:"sink"`
	Raw     json.RawMessage `json:"raw,omitempty"`
	Message *struct {
		Body     string            `json:"body"`
		Metadata map[string]string `json:"metadata"`
	} `json:"message"`
	IDs  []string  `json:"ids"`
	At   time.Time `json:"at,omitzero"`
	All  bool      `json:"all"`
	Rate float64   `json:"rate"`
	Key  []byte    `json:"key"`
	own  string
}

type base2 struct{ base }

func TestWhatIsRefusedAndHowItIsSaid(t *testing.T) {
	long := strings.Repeat("n", 100)
	tests := []struct {
		name, in, want string
		syntax         bool
	}{
		{"another case", `{"sink":"a","SINK":"b"}`, "SINK: unknown field; write it as sink", false},
		{"another case alone", `{"Sink":"a"}`, "Sink: unknown field; write it as sink", false},
		{"another case below", `{"message":{"Body":"b"}}`, "message.Body: unknown field; write it as body", false},
		{"unknown", `{"snk":"a"}`, "snk: unknown field; known: all, at, base, ids, key, message, rate, raw, sink", false},
		{"unknown in Go's spelling", `{"own":"a"}`, "own: unknown field; known: all", false},
		{"twice", `{"sink":"a","sink":"a"}`, "sink: given twice", true},
		{"twice, spelled with an escape", `{"sink":"a","\u0073ink":"b"}`, "sink: given twice", true},
		{"twice below", `{"message":{"body":"a","body":"b"}}`, "message.body: given twice", true},
		{"twice in a map", `{"message":{"metadata":{"a":"1","a":"2"}}}`, "message.metadata.a: given twice", true},
		{"twice where nobody looks", `{"raw":{"a":[{"b":1,"b":2}]}}`, "raw.a[0].b: given twice", true},
		{"Latin-1", "{\"sink\":\"caf\xe9\"}", "sink: not valid UTF-8 at byte 12", true},
		{"Latin-1 in a name", "{\"caf\xe9\":1}", "JSON: not valid UTF-8 at byte 5", true},
		{"Latin-1 where nobody looks", "{\"raw\":[\"\xe9\"]}", "raw[0]: not valid UTF-8 at byte 9", true},
		{"half of a pair", `{"sink":"\ud800"}`, "sink: half of a surrogate pair at byte 9", true},
		{"half of a pair at the end", `{"sink":"\udc00x"}`, "sink: half of a surrogate pair", true},
		{"wrong type", `{"message":{"body":7}}`, "message.body: want a string, got a number", false},
		{"wrong type in a list", `{"ids":["a",null,{}]}`, "ids[2]: want a string, got an object", false},
		{"wrong type of the whole", `[]`, "JSON: want an object, got an array", false},
		{"string for an object", `{"message":"x"}`, "message: want an object, got a string", false},
		{"bool", `{"all":"true"}`, "all: want true or false, got a string", false},
		{"a fraction", `{"base":1.5}`, "base: want a whole number", false},
		{"too large", `{"base":99999999999999999999}`, "base: want a whole number in range", false},
		{"a number too large", `{"rate":1e999}`, "rate: want a number in range", false},
		{"no time", `{"at":"now"}`, "at: want a time such as 2026-01-31T23:59:00Z", false},
		{"a number for a time", `{"at":1}`, "at: want a time such as", false},
		{"no base64", `{"key":"?"}`, "key: want a string in base64", false},
		{"empty", ` `, "JSON: empty", true},
		{"cut off", `{"sink":`, "JSON: cut off", true},
		{"cut off in a text", `{"sink":"a`, "JSON: cut off", true},
		{"more", `{} {}`, "JSON: more follows", true},
		{"no JSON", `{sink:1}`, "JSON: not JSON at byte 1", true},
		{"a control character", "{\"sink\":\"\x01\"}", "JSON: not JSON at byte 9", true},
		{"a name of its own", `{"message":{"metadata":{"` + long + `\u202e":1}}}`, "message.metadata." + long[:39] + "…: want a string, got a number", false},
		{"a name with a control character", `{"a\u0007b":1}`, "a\ufffdb: unknown field", false},
	}
	for _, tt := range tests {
		var into document
		err := strictjson.Decode([]byte(tt.in), &into)
		fault, ok := errors.AsType[*strictjson.Error](err)
		if !ok || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an Error that begins with %q", tt.name, err, tt.want)
			continue
		}
		if fault.Syntax != tt.syntax {
			t.Errorf("%s: Syntax is %v", tt.name, fault.Syntax)
		}
		if fault.Field == "" && !strings.HasPrefix(fault.In("request body"), "request body: ") {
			t.Errorf("%s: in a request body it is called %q", tt.name, fault.In("request body"))
		}
		for _, word := range []string{"strictjson", "struct", "int", "[]", "map", "Go ", "document"} {
			if strings.Contains(strings.TrimPrefix(err.Error(), "JSON"), word) {
				t.Errorf("%s: the text names a Go type: %q", tt.name, err)
			}
		}
		if err := strictjson.DecodePart([]byte(tt.in), &into); tt.syntax && err == nil {
			t.Errorf("%s: DecodePart takes it", tt.name)
		}
	}
}

func TestWhatIsTaken(t *testing.T) {
	var got document
	in := `{"sink":"caf\u00e9 \ud83d\ude00","raw":{"Any":[1,{"x":null}]},"message":{"body":"<b>","metadata":{"A":"1","a":"2"}},` +
		`"ids":[],"at":"2026-01-31T23:59:00.5+01:00","base":3,"key":"AAE="}` + "\n"
	if err := strictjson.Decode([]byte(in), &got); err != nil {
		t.Fatal(err)
	}
	if got.Sink != "café 😀" || string(got.Raw) != `{"Any":[1,{"x":null}]}` || got.Message.Body != "<b>" || len(got.Message.Metadata) != 2 ||
		got.IDs == nil || !got.At.Equal(time.Date(2026, 1, 31, 22, 59, 0, 5e8, time.UTC)) || got.Base != 3 || string(got.Key) != "\x00\x01" || got.own != "" {
		t.Errorf("got %+v", got)
	}
	if err := strictjson.DecodePart([]byte(`{"sink":"a","Sink":"b","other":{"x":1}}`), &got); err != nil || got.Sink != "a" {
		t.Errorf("in part: %+v, %v; want sink a and nothing of the rest", got, err)
	}
	var empty document
	if err := strictjson.Decode([]byte(`{"sink":null,"message":null,"ids":null,"at":null}`), &empty); err != nil || !reflect.DeepEqual(empty, document{}) {
		t.Errorf("null: %+v, %v; want the zero value", empty, err)
	}
}

// The platform's own events are read as encoding/json reads them.
func TestSampleEventsAreReadAsBefore(t *testing.T) {
	files, err := filepath.Glob("../../events/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, into := range []func() any{
			func() any { return new(events.APIGatewayV2HTTPRequest) },
			func() any { return new(events.SQSEvent) },
		} {
			want, got := into(), into()
			if err := json.Unmarshal(b, want); err != nil {
				t.Fatal(err)
			}
			if err := strictjson.DecodePart(b, got); err != nil {
				t.Errorf("%s: %v", f, err)
			}
			if strings.Contains(f, "replay-input") {
				continue // "sinks" is no field of theirs
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", f, got, want)
			}
		}
	}
}
