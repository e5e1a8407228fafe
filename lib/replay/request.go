package replay

import (
	"bytes"
	"encoding/json"
	"fmt"

	"backstop/internal/strictjson"
	"backstop/lib/fault"
)

// Request asks for a Run. The zero value replays what is due in every sink.
type Request struct {
	// Sinks narrows the run to these sinks. Empty: all.
	Sinks []string `json:"sinks,omitempty"`
	// Limit is the most due items to replay; 0: no limit. Bulk operations are not
	// counted.
	Limit int `json:"limit,omitempty"`
	// OnSuccess overrides the policy of every sink. Empty: it does not.
	OnSuccess OnSuccess `json:"on_success,omitempty"`
	// Operation runs this bulk operation and nothing else.
	Operation string `json:"operation,omitempty"`
	// Scheduled says that the run is a tick of the schedule, which alone may start others beside it
	// (Engine.Replayers). ParseRequest knows a tick by its event.
	Scheduled bool `json:"-"`
	// Part makes the run a part of a tick: it replays what is due in Sinks, until the tick ends, and does
	// nothing else that a tick does. Nil: it is none. It goes with Sinks alone.
	Part *Part `json:"part,omitempty"`
}

// ParseRequest reads the input of a Run: nothing at all, a Request, an EventBridge
// event (known by its detail-type) or the Scheduler's {"trigger":"schedule",
// "time":"..."}; the last two ask for a Scheduled Request without anything else. Anything else is
// INVALID_ARGUMENT and names the field.
func ParseRequest(b []byte) (Request, error) {
	var fields map[string]json.RawMessage
	if len(bytes.TrimSpace(b)) == 0 {
		return Request{}, nil
	}
	if err := strictjson.DecodePart(b, &fields); err != nil {
		return Request{}, invalid("%s", strictjson.Text("request", err))
	}
	if _, ok := fields["detail-type"]; ok {
		return Request{Scheduled: true}, nil
	}
	if _, ok := fields["trigger"]; ok {
		return parseTrigger(b)
	}
	var r Request
	if err := decode(b, &r); err != nil {
		return Request{}, err
	}
	return r, r.validate()
}

func parseTrigger(b []byte) (Request, error) {
	var t struct {
		Trigger string `json:"trigger"`
		Time    string `json:"time"`
	}
	if err := decode(b, &t); err != nil {
		return Request{}, err
	}
	if t.Trigger != "schedule" {
		return Request{}, invalid("trigger: want \"schedule\", got %.40q", t.Trigger)
	}
	return Request{Scheduled: true}, nil
}

func (r Request) validate() error {
	for i, name := range r.Sinks {
		if err := fault.CheckName(name); err != nil {
			return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("sinks[%d]", i), Cause: err}
		}
	}
	if r.Limit < 0 {
		return invalid("limit: want 0 (no limit) or more, got %d", r.Limit)
	}
	if r.Operation != "" {
		if err := checkOperationID(r.Operation); err != nil {
			return err
		}
	}
	if err := r.validatePart(); err != nil {
		return err
	}
	return checkOnSuccess(r.OnSuccess)
}

func checkOnSuccess(s OnSuccess) error {
	if s != "" && s != OnSuccessDiscard && s != OnSuccessKeep {
		return invalid("on_success: want discard or keep, got %.40q", s)
	}
	return nil
}

// decode reads one JSON object strictly.
func decode(b []byte, into any) error {
	if err := strictjson.Decode(b, into); err != nil {
		return invalid("%s", strictjson.Text("request", err))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}
