package mcp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"backstop/client"
	"backstop/lib/fault"
)

// operator has the tools that change something: previews, which do not, and their confirmation.
type operator struct {
	api     API
	approve bool
	log     *slog.Logger
	tokens  tokens
}

func (o *operator) add(s *sdk.Server) {
	previews(s, "preview_replay", "Says what a replay would send again: one dead letter, a group (one cause), a filter, or all. Sends nothing. Gives a token for confirm.", o.previewReplay)
	previews(s, "preview_discard", "Says what a discard would remove for good: one dead letter, a group, a filter, or all. Removes nothing. Gives a token for confirm.", o.previewDiscard)
	previews(s, "preview_pause", "Says what pausing a sink would do. Pauses nothing. Gives a token for confirm.", o.previewPause)
	previews(s, "preview_resume", "Says what resuming a sink would do. Resumes nothing. Gives a token for confirm.", o.previewResume)
	previews(s, "preview_cancel", "Says what canceling a bulk operation would stop. Cancels nothing. Gives a token for confirm.", o.previewCancel)
	yes := true
	sdk.AddTool(s, &sdk.Tool{
		Name: "confirm",
		Description: "Does what a preview said, to what it saw and nothing newer. It may send messages or remove them for good. " +
			"Repeated with the same token and reason, it is the same change and not another one.",
		Annotations: &sdk.ToolAnnotations{DestructiveHint: &yes, IdempotentHint: true, OpenWorldHint: &yes},
	}, o.confirm)
}

// previews adds a tool that looks at a change, for its session.
func previews[In any](s *sdk.Server, name, description string, f func(ctx context.Context, session any, in In) (previewOut, error)) {
	sdk.AddTool(s, &sdk.Tool{Name: name, Description: description, Annotations: lookHints()},
		func(ctx context.Context, req *sdk.CallToolRequest, in In) (*sdk.CallToolResult, previewOut, error) {
			out, err := f(ctx, req.Session, in)
			return nil, out, told(err)
		})
}

type selection struct {
	Item string `json:"item,omitempty" jsonschema:"id of one dead letter, without any of the other fields"`
	filter
	All bool `json:"all,omitempty" jsonschema:"every dead letter; needed where nothing else is given"`
}

type replayIn struct {
	selection
	StopAfter *int `json:"stop_after,omitempty" jsonschema:"how many failures in a row of one receiver stop it, 5 by default; 0: none do"`
}

type previewOut struct {
	What      string           `json:"what" jsonschema:"what confirm would do"`
	Count     int64            `json:"count" jsonschema:"how many dead letters it would touch"`
	Expired   int64            `json:"expired" jsonschema:"of these, a replay sends none: their time is over"`
	BySink    map[string]int64 `json:"by_sink,omitempty"`
	Groups    []causeView      `json:"groups,omitempty" jsonschema:"the causes among them, the largest first"`
	More      int              `json:"more_groups,omitempty"`
	Sample    []rowView        `json:"sample,omitempty" jsonschema:"the newest of them"`
	LastTried *triedView       `json:"last_tried,omitempty" jsonschema:"the newest replay of any of them: did it help?"`
	UpTo      string           `json:"up_to,omitempty" jsonschema:"the newest entry that was seen: confirm touches nothing newer"`
	Sink      *sinkView        `json:"sink,omitempty"`
	Operation *operationView   `json:"operation,omitempty"`
	Token     string           `json:"token,omitempty" jsonschema:"for confirm; missing where there is nothing to do"`
	ExpiresAt string           `json:"expires_at,omitempty" jsonschema:"the token is good until then"`
}

type causeView struct {
	ID     string     `json:"id"`
	Sink   string     `json:"sink"`
	Reason string     `json:"reason"`
	Cause  *Untrusted `json:"cause,omitempty"`
	Count  int64      `json:"count"`
}

type triedView struct {
	At        string     `json:"at"`
	Delivered bool       `json:"delivered"`
	Error     *Untrusted `json:"error,omitempty"`
}

func (o *operator) previewReplay(ctx context.Context, session any, in replayIn) (previewOut, error) {
	return o.preview(ctx, session, in.selection, client.OperationRequest{Action: client.ActionReplay, StopAfter: in.StopAfter})
}

func (o *operator) previewDiscard(ctx context.Context, session any, in selection) (previewOut, error) {
	return o.preview(ctx, session, in, client.OperationRequest{Action: client.ActionDiscard})
}

// choose fills in what is selected, by what never changes: a group's id ends with its last dead letter.
func (o *operator) choose(ctx context.Context, in selection, r *client.OperationRequest) error {
	empty := in.filter == filter{}
	switch {
	case in.Item != "" && (!empty || in.All):
		return coded(fault.CodeInvalidArgument, "item: it is one dead letter; leave out the other fields")
	case in.Item != "":
		r.IDs = []string{in.Item}
		return nil
	case in.All && !empty:
		return coded(fault.CodeInvalidArgument, "all: it is every dead letter; leave out the other fields")
	case in.All:
		r.All = true
		return nil
	case empty:
		return coded(fault.CodeInvalidArgument, "give an item, a group, or another field that selects dead letters; all: true for every one")
	}
	f, err := in.filter.filter()
	if err != nil {
		return err
	}
	if f.Group != "" {
		g, err := (reader{o.api}).group(ctx, f.Sink, f.Group)
		if err != nil {
			return err
		}
		if f.Reason != "" && f.Reason != g.Reason {
			return coded(fault.CodeInvalidArgument, "reason: that of the group is %s; leave it out", g.Reason)
		}
		f.Group, f.Sink, f.Reason, f.Fingerprint = "", g.Sink, g.Reason, g.Fingerprint
	}
	r.Filter = &f
	return nil
}

// preview looks at what r would touch of the selection, and gives a token for exactly that.
func (o *operator) preview(ctx context.Context, session any, in selection, r client.OperationRequest) (out previewOut, err error) {
	if err := o.choose(ctx, in, &r); err != nil {
		return out, err
	}
	r.Expect = &client.Expect{}
	d, err := o.api.DryRun(ctx, r)
	if err != nil {
		return out, err
	}
	verb := "Replay"
	if r.Action == client.ActionDiscard {
		verb = "Discard for good"
	}
	out = previewOut{
		What: fmt.Sprintf("%s %d dead letters (%s)", verb, d.Count, described(in)), Count: d.Count, Expired: d.Expired, More: d.MoreGroups,
		Sample: viewRows(d.Sample[:min(len(d.Sample), maxSample)]),
	}
	out.BySink, _ = bounded(d.BySink)
	for _, g := range d.Groups {
		out.Groups = append(out.Groups, causeView{g.ID, g.Sink, string(g.Reason), untrusted(g.Fingerprint, maxError), g.Count})
	}
	if t := d.LastTried; t != nil {
		out.LastTried = &triedView{at(t.At), t.Delivered, untrusted(t.Error, maxError)}
	}
	switch {
	case d.Count == 0:
		return out, nil
	case !d.Complete:
		return out, coded(fault.CodeInvalidArgument, "there are %d dead letters or more, too many to say which: take a narrower filter, by sink, group or time", d.Count)
	case d.Expect == nil:
		return out, coded(fault.CodeInvalidArgument, "the API does not say what it has seen: it is older than this program")
	}
	out.UpTo, r.Expect = d.Expect.UpTo, d.Expect
	o.give(session, &out, func(ctx context.Context, key, reason string) (confirmOut, error) {
		r := r
		r.Reason = reason
		op, err := o.api.CreateOperation(ctx, key, r)
		if err != nil {
			return confirmOut{}, err
		}
		v := viewOperation(op)
		return confirmOut{Operation: &v}, nil
	})
	return out, nil
}

// give adds a token to a preview.
func (o *operator) give(session any, out *previewOut, begin func(context.Context, string, string) (confirmOut, error)) {
	k := o.tokens.give(session, change{out.What, begin})
	out.Token, out.ExpiresAt = k.id, at(k.until.Truncate(time.Second))
}

// described names what is selected, for a person.
func described(in selection) string {
	f := in.filter
	var parts []string
	for _, p := range [][2]string{
		{"item", in.Item}, {"sink", f.Sink}, {"group", f.Group}, {"reason", f.Reason}, {"delivery id", f.DeliveryID}, {"with", f.Query}, {"since", f.Since}, {"until", f.Until},
	} {
		if p[1] != "" {
			parts = append(parts, fmt.Sprintf("%s %q", p[0], cut(p[1], maxPreview)))
		}
	}
	if len(parts) == 0 {
		return "all that there are"
	}
	return strings.Join(parts, ", ")
}

// bounded returns the counts of the sinks with the most dead letters, and whether it left any out.
func bounded(counts map[string]int64) (map[string]int64, bool) {
	out := maps.Clone(counts)
	if out == nil {
		out = map[string]int64{}
	}
	if len(out) <= maxSinks {
		return out, false
	}
	names := slices.SortedFunc(maps.Keys(out), func(a, b string) int { return int(min(max(out[b]-out[a], -1), 1)) })
	for _, name := range names[maxSinks:] {
		delete(out, name)
	}
	return out, true
}

type sinkIn struct {
	Sink string `json:"sink"`
}

func (o *operator) previewPause(ctx context.Context, session any, in sinkIn) (previewOut, error) {
	return o.toggle(ctx, session, in.Sink, true)
}

func (o *operator) previewResume(ctx context.Context, session any, in sinkIn) (previewOut, error) {
	return o.toggle(ctx, session, in.Sink, false)
}

func (o *operator) toggle(ctx context.Context, session any, name string, pause bool) (out previewOut, err error) {
	s, err := o.sink(ctx, name)
	if err != nil {
		return out, err
	}
	v := viewSink(s)
	out = previewOut{Sink: &v, What: "Resume sink " + name + ": the schedule replays what is due, and what holds back its receivers is lifted"}
	do := o.api.ResumeSink
	if pause {
		out.What, do = "Pause sink "+name+": what is sent to it becomes a dead letter at once, and the schedule leaves it alone", o.api.PauseSink
		if s.Paused {
			out.What = "Sink " + name + " is paused already"
			return out, nil
		}
	}
	begun := false // perhaps, by an earlier confirm
	o.give(session, &out, func(ctx context.Context, _, _ string) (confirmOut, error) {
		now, err := o.sink(ctx, name)
		if err != nil {
			return confirmOut{}, err
		}
		if !begun && now.Paused != s.Paused {
			return confirmOut{}, coded(fault.CodePreviewStale, "somebody paused or resumed sink %s meanwhile: look again", name)
		}
		if now, err = do(ctx, name); err != nil {
			begun = unknown(err)
			return confirmOut{}, err
		}
		v := viewSink(now)
		return confirmOut{Sink: &v}, nil
	})
	return out, nil
}

func (o *operator) sink(ctx context.Context, name string) (client.Sink, error) {
	all, err := o.api.Sinks(ctx)
	if err != nil {
		return client.Sink{}, err
	}
	for _, s := range all.Sinks {
		if s.Name == name {
			return s, nil
		}
	}
	return client.Sink{}, coded(fault.CodeSinkNotFound, "no sink %.80q", name)
}

func (o *operator) previewCancel(ctx context.Context, session any, in operationIn) (out previewOut, err error) {
	op, err := o.api.Operation(ctx, in.ID)
	if err != nil {
		return out, err
	}
	v := viewOperation(op)
	out = previewOut{What: fmt.Sprintf("Cancel operation %s; what it did stays done", op.ID), Operation: &v, Count: max(0, op.Total-op.Settled)}
	if op.Final() {
		out.What = fmt.Sprintf("Operation %s is %s already", op.ID, op.Status)
		return out, nil
	}
	begun := false // perhaps, by an earlier confirm
	o.give(session, &out, func(ctx context.Context, _, _ string) (confirmOut, error) {
		now, err := o.api.Operation(ctx, op.ID)
		if err != nil {
			return confirmOut{}, err
		}
		if !begun && (now.Final() || now.Round != op.Round) {
			return confirmOut{}, coded(fault.CodePreviewStale, "operation %s is %s by now, in round %d: look again", op.ID, now.Status, now.Round)
		}
		if now, err = o.api.CancelOperation(ctx, op.ID); err != nil {
			begun = unknown(err)
			return confirmOut{}, err
		}
		v := viewOperation(now)
		return confirmOut{Operation: &v}, nil
	})
	return out, nil
}
