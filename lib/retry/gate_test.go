package retry_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// witness is a gate that lets everything through and notes what it is told.
type witness struct {
	told []flow.Result
	lost int
}

func (*witness) Ask(context.Context, flow.Try) flow.Leave          { return flow.Leave{} }
func (*witness) Shut(context.Context, flow.Try) (flow.Leave, bool) { return flow.Leave{}, false }
func (w *witness) Tell(_ context.Context, _ flow.Leave, t flow.Told) {
	w.told = append(w.told, t.Result)
}
func (w *witness) Lost(context.Context, flow.Try, string) { w.lost++ }

// What an attempt tells of its receiver: only what the receiver said, or failed to say.
func TestTheGateIsToldWhatTheReceiverDid(t *testing.T) {
	unavailable := &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "it"}
	for name, c := range map[string]struct {
		err  error
		want flow.Result
	}{
		"it took the message":                      {nil, flow.Good},
		"it refused the message for good":          {sinks.Terminal(unavailable), flow.Good},
		"a failure that may pass":                  {sinks.Transient(unavailable), flow.Bad},
		"silence":                                  {sinks.Ambiguous(unavailable), flow.Bad},
		"its certificate is not valid":             {sinks.Unreached(unavailable), flow.NoAnswer},
		"the message was refused here":             {sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "it"}), flow.NoAnswer},
		"the process had no descriptor":            {sinks.Ours(unavailable), flow.NoAnswer},
		"an error without a code, of unknown kind": {errors.New("it"), flow.NoAnswer},
		"a connection that broke":                  {sinks.Transient(io.ErrUnexpectedEOF), flow.Bad},
	} {
		synctest.Test(t, func(t *testing.T) {
			var w witness
			r := retry.NewRetrier(&script{steps: []step{fails(c.err)}}, retry.Config{MaxAttempts: 1}, &queue{})
			r.Gate = &w
			r.Deliver(t.Context(), nil, sinks.Message{ID: "d", Body: "x"})
			if len(w.told) != 1 || w.told[0] != c.want {
				t.Errorf("%s: told %v, want %v", name, w.told, c.want)
			}
			if lost := c.want == flow.Bad; lost != (w.lost == 1) {
				t.Errorf("%s: lost %d times", name, w.lost)
			}
		})
	}
}
