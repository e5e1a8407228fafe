package replay_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"backstop/lib/fault"
	"backstop/lib/replay"
)

func TestParseRequest(t *testing.T) {
	tests := []struct {
		name, in string
		want     replay.Request
		fault    string // "": none; else what the error names
	}{
		{"nothing", ``, replay.Request{}, ""},
		{"null", `null`, replay.Request{}, ""},
		{"an empty object", `{}`, replay.Request{}, ""},
		{"everything", `{"sinks":["a","b"],"limit":3,"on_success":"keep"}`, replay.Request{Sinks: []string{"a", "b"}, Limit: 3, OnSuccess: "keep"}, ""},
		{"an operation", `{"operation":"op-0193b3e0-0000-7000-8000-000000000000"}`, replay.Request{Operation: "op-0193b3e0-0000-7000-8000-000000000000"}, ""},
		{"an EventBridge event", `{"version":"0","id":"x","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`, replay.Request{Scheduled: true}, ""},
		{"the Scheduler's input", `{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`, replay.Request{Scheduled: true}, ""},
		{"a part of a tick", `{"sinks":["a"],"part":{"rank":3,"until":"2026-01-01T00:00:00Z"}}`, replay.Request{
			Sinks: []string{"a"}, Part: &replay.Part{Rank: 3, Until: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
		}, ""},
		{"a part of no rank", `{"sinks":["a"],"part":{"until":"2026-01-01T00:00:00Z"}}`, replay.Request{}, "part.rank: want 1 to 15, got 0"},
		{"a part of too high a rank", `{"sinks":["a"],"part":{"rank":16,"until":"2026-01-01T00:00:00Z"}}`, replay.Request{}, "part.rank: want 1 to 15, got 16"},
		{"a part without an end", `{"sinks":["a"],"part":{"rank":1}}`, replay.Request{}, "part.until"},
		{"a part without sinks", `{"part":{"rank":1,"until":"2026-01-01T00:00:00Z"}}`, replay.Request{}, "sinks: required with part"},
		{"a part with a limit", `{"sinks":["a"],"limit":1,"part":{"rank":1,"until":"2026-01-01T00:00:00Z"}}`, replay.Request{}, "part: goes with sinks alone"},
		{"a part with more", `{"sinks":["a"],"part":{"rank":1,"of":2}}`, replay.Request{}, "part.of: unknown field; known: rank, until"},
		{"a part as a tick", `{"trigger":"schedule","part":{"rank":1}}`, replay.Request{}, "part: unknown field"},
		{"a tick by another name", `{"Scheduled":true}`, replay.Request{}, "Scheduled: unknown field"},
		{"another trigger", `{"trigger":"finger"}`, replay.Request{}, "trigger"},
		{"a trigger with more", `{"trigger":"schedule","sinks":["a"]}`, replay.Request{}, "sinks"},
		{"an unknown field", `{"sink":"a"}`, replay.Request{}, "sink: unknown field; known: limit, on_success, operation, part, sinks"},
		{"another case", `{"limit":1,"Limit":1000}`, replay.Request{}, "Limit: unknown field; write it as limit"},
		{"a name twice", `{"limit":1,"limit":1000}`, replay.Request{}, "limit: given twice"},
		{"a trigger twice", `{"trigger":"schedule","trigger":"schedule"}`, replay.Request{}, "trigger: given twice"},
		{"a trigger in another case", `{"Trigger":"schedule"}`, replay.Request{}, "Trigger: unknown field"},
		{"an event with a name twice", `{"detail-type":"x","detail":{"a":1,"a":2}}`, replay.Request{}, "detail.a: given twice"},
		{"Latin-1", "{\"sinks\":[\"caf\xe9\"]}", replay.Request{}, "sinks[0]: not valid UTF-8"},
		{"a wrong type", `{"limit":"3"}`, replay.Request{}, "limit: want a whole number, got a string"},
		{"a wrong type in a list", `{"sinks":[{}]}`, replay.Request{}, "sinks[0]: want a string, got an object"},
		{"a number too large", `{"limit":9223372036854775808}`, replay.Request{}, "limit: want a whole number in range"},
		{"two objects", `{}{}`, replay.Request{}, "request: more follows"},
		{"a negative limit", `{"limit":-1}`, replay.Request{}, "limit"},
		{"a bad sink name", `{"sinks":["a","{b}"]}`, replay.Request{}, "sinks[1]"},
		{"a bad choice", `{"on_success":"drop"}`, replay.Request{}, "on_success"},
		{"a bad operation", `{"operation":"x"}`, replay.Request{}, "operation"},
		{"an array", `[]`, replay.Request{}, "request: want an object, got an array"},
		{"not JSON", `{`, replay.Request{}, "request"},
		{"an SQS event", `{"Records":[]}`, replay.Request{}, "Records"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := replay.ParseRequest([]byte(tt.in))
			if tt.fault == "" {
				if err != nil || !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
				}
				return
			}
			if fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("got %v, want INVALID_ARGUMENT naming %s", err, tt.fault)
			}
		})
	}
}
