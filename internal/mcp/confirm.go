package mcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"backstop/client"
	"backstop/lib/fault"
)

// confirmTime bounds what a confirmation does, whoever gives up on it.
const confirmTime = time.Minute

type confirmIn struct {
	Token  string `json:"token" jsonschema:"that of the preview"`
	Reason string `json:"reason" jsonschema:"why, in your words, such as: INC-42, the receiver is back. It is kept with the change"`
}

type confirmOut struct {
	What      string         `json:"what" jsonschema:"what was begun"`
	Repeated  bool           `json:"repeated" jsonschema:"it was confirmed before: nothing was begun now"`
	Operation *operationView `json:"operation,omitempty" jsonschema:"follow it with the tool operation until it is final"`
	Sink      *sinkView      `json:"sink,omitempty"`
}

// confirm does what a token is for.
func (o *operator) confirm(ctx context.Context, req *sdk.CallToolRequest, in confirmIn) (*sdk.CallToolResult, confirmOut, error) {
	res, out, err := o.confirmed(ctx, req, in)
	return res, out, told(err)
}

func (o *operator) confirmed(ctx context.Context, req *sdk.CallToolRequest, in confirmIn) (*sdk.CallToolResult, confirmOut, error) {
	reason := strings.TrimSpace(in.Reason)
	if reason == "" || utf8.RuneCountInString(reason) > maxReason {
		return nil, confirmOut{}, coded(fault.CodeInvalidArgument, "reason: say why, in at most %d characters", maxReason)
	}
	k, err := o.tokens.find(req.Session, in.Token)
	if err != nil {
		return nil, confirmOut{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	done, err := k.usable(reason)
	if err != nil {
		return nil, confirmOut{}, err
	}
	if done {
		out := k.out
		out.Repeated = true
		if out.Operation == nil {
			return nil, out, nil
		}
		op, err := o.api.Operation(ctx, out.Operation.ID)
		if err != nil {
			return nil, confirmOut{}, err
		}
		v := viewOperation(op)
		out.Operation = &v
		return nil, out, nil
	}
	if o.approve && k.state == tokenFresh {
		if question, err := k.approved(req, reason); question != nil || err != nil {
			return question, confirmOut{}, err
		}
	}
	out, err := o.begin(ctx, k, req.Session, reason)
	return nil, out, err
}

// begin does it. Once begun it goes on without the caller: what becomes of it must be known.
func (o *operator) begin(ctx context.Context, k *token, session *sdk.ServerSession, reason string) (confirmOut, error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), confirmTime)
	defer stop()
	k.state, k.reason = tokenBegun, reason
	out, err := k.begin(ctx, k.id, reason+" (backstop mcp"+by(session)+")")
	switch {
	case err == nil:
	case fault.CodeOf(err) == fault.CodePreviewStale:
		k.state = tokenStale
		return confirmOut{}, err
	case unknown(err):
		return confirmOut{}, fmt.Errorf("nobody knows whether it was begun: confirm with the same token and reason again, which does it once: %w", err)
	default: // it was refused
		k.state, k.reason = tokenFresh, ""
		return confirmOut{}, err
	}
	out.What = k.what
	k.state, k.out = tokenDone, out
	args := []any{"what", k.what, "reason", reason}
	if out.Operation != nil {
		args = append(args, "operation", out.Operation.ID)
	}
	o.log.InfoContext(ctx, "confirmed", args...)
	return out, nil
}

// unknown reports whether a change may have been begun although it ended with err.
func unknown(err error) bool {
	if _, ok := errors.AsType[*client.ProblemError](err); ok {
		return client.Repeatable(err)
	}
	return fault.CodeOf(err) == ""
}

// by names the session's client.
func by(session *sdk.ServerSession) string {
	p := session.InitializeParams()
	if p == nil || p.ClientInfo == nil || p.ClientInfo.Name == "" {
		return ""
	}
	return ", " + cut(strings.TrimSpace(p.ClientInfo.Name+" "+p.ClientInfo.Version), 60)
}

// approved asks a person, through the client: a result is the question. Neither a question nor an error:
// they agreed.
func (k *token) approved(req *sdk.CallToolRequest, reason string) (*sdk.CallToolResult, error) {
	const question = "approve"
	if answer, ok := req.Params.InputResponses[question].(*sdk.ElicitResult); ok && k.asked != "" && req.Params.RequestState == k.asked {
		k.asked = ""
		if answer.Action == "accept" {
			return nil, nil
		}
		k.state = tokenRefused
		return nil, coded(fault.CodeApprovalRefused, "a person was asked and did not agree: nothing was done")
	}
	p := req.Session.InitializeParams()
	if p == nil || p.Capabilities == nil || p.Capabilities.Elicitation == nil {
		return nil, coded(fault.CodeApprovalUnsupported, "this server asks a person before it changes anything (--approve), and your client cannot ask (no elicitation): nothing was done")
	}
	k.asked = random() + "/" + reason
	return &sdk.CallToolResult{
		InputRequests: sdk.InputRequestMap{question: &sdk.ElicitParams{
			Mode: "form", Message: fmt.Sprintf("%s? The agent's reason: %q", k.what, reason),
			RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}},
		}},
		RequestState: k.asked,
	}, nil
}
