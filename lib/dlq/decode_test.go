package dlq

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// decodedLeniently is decodeItem as encoding/json alone does it.
func decodedLeniently(text string) (Item, error) {
	var it Item
	if err := json.Unmarshal([]byte(text), &it); err != nil {
		return Item{}, err
	}
	var w struct {
		Message   *json.RawMessage `json:"message"`
		LastError *string          `json:"LastError"`
	}
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return Item{}, err
	}
	if w.Message == nil {
		return Item{}, errors.New("the item has no message")
	}
	if it.LastError == "" && w.LastError != nil {
		it.LastError = *w.LastError
	}
	it.forget()
	return it, nil
}

// However fast an item is read, it is the one that encoding/json reads, and one that is damaged is reported in the same
// words.
func FuzzItemIsDecodedAsByEncodingJSON(f *testing.F) {
	for _, seed := range []string{
		`{"delivery_id":"a","sink":"orders","at":"2026-01-01T00:00:00Z","recipient":null,"message":{"id":"a","body":"b"},"attempts":5,"last_error":"HTTP 503","reason":"exhausted"}`,
		`{"Sink":"x","Message":{"ID":"a","Body":"b","Metadata":{"k":"v"}},"Attempts":1,"LastError":"e"}`,
		`{"sink":"a","SINK":"b","message":{"body":"a","body":"b","metadata":{"a":"1","a":"2"}},"last_error":"e"}`,
		`{"message":{"body":"b","metadata":null},"message":{"id":"c"},"last_error":null,"recipient":"x","recipient":null}`,
		`{"message":{"id":"a","body":"b","metadata":{"a":null,"b":""}},"last_error":"e","recipient": [1, {"a" : 2} ] ,"of":null}`,
		`{"message":{"id":"a"},"last_error":"e","of":{"sink":"b","fingerprint":"c"},"recipient":"","history":null}`,
		`{"message":{"id":"a"},"last_error":"e","of":{"sink":"b","fingerprint":"c","x":1}}`,
		`{"message":{"id":"a"},"last_error":"e","attempts":-0,"replays":1.0}`,
		`{"message":{"id":"a"},"last_error":"e","attempts":1e2}`,
		`{"message":{"id":"a"},"last_error":"e","attempts":"1"}`,
		`{"message":{"id":"a"},"last_error":"e","attempts":9223372036854775808}`,
		`{"message":{"id":"a"},"last_error":"e","attempts":-0,"unanswered":null,"parked":null,"spilled":true}`,
		`{"message":{"id":"a"},"last_error":"e","at":"2026-01-01T00:00:00+02:00","not_before":"2026-01-01T24:00:00Z"}`,
		`{"message":{"id":"a"},"last_error":"e","at":"2026-01-01T00:00:00,5Z"}`,
		`{"message":{"id":"a"},"last_error":"e","at":"2026-01-01T0:00:00Z","expires_at":null}`,
		`{"message":{"id":"a"},"last_error":"e","at":"","accepted_at":"2026-01-01t00:00:00z"}`,
		`{"message":{"id":"a","body":"\ud800\ud83d\ude00\u0000\/"},"last_error":"e"}`,
		"{\"message\":{\"id\":\"a\",\"body\":\"\xff\"},\"last_error\":\"e\"}",
		"{\"message\":{\"id\":\"a\",\"body\":\"b\"},\"last_error\":\"e\",\"recipient\":\"\xff\\ud800\"}",
		`{"message":{"id":"a","body":1},"last_error":"e"}`,
		`{"message":null,"last_error":"e"}`, `{"last_error":"e"}`, `{"message":{},"last_error":""}`, `{"message":[],"last_error":"e"}`,
		`{"message":{"id":"a"},"last_error":"e"} x`, ` {"message":{"id":"a"},"last_error":"e"} `, "\ufeff{}",
		`{"message":{"id":"a"},"last_error":"e","history":[{"at":"2026-01-01T00:00:00Z","error":"e"}],"decode_error":"d","raw":"r","id":"x"}`,
		`{"message":{"id":"a"},"last_error":"e","Deaths":1,"-":2,"Journal":"j","SupersededAs":{}}`,
		`{"message":{"id":"a"},"last_error":"e","reason":1}`, `{"message":{"id":"a"},"last_error":"e",}`,
		`{"message":{"id":"a"},"last_error":"e","recipient":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + "}",
		`{"message":{"id":"a"},"last_error":"e","recipient":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + "}",
		"", "{", "[]", "null", "0", "\"x\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, wantErr := decodedLeniently(text)
		got, err := entry{item: text}.decodeItem()
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v, %v", text, got, err, want, wantErr)
		}
	})
}
