package replay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Expect is what somebody saw in a dry run, and what the operation must still find when it is
// created: otherwise it is PREVIEW_STALE, and nothing begins. A dry run with the zero Expect looks
// at every item and answers with the one to hand back.
type Expect struct {
	// UpTo is the native id of the newest entry there was: what came later is no member. Empty: there
	// was none.
	UpTo  string `json:"up_to,omitempty"`
	Count int64  `json:"count"`
	// Digest is of the members' ids, reasons and errors, in any order.
	Digest string `json:"digest,omitempty"`
	// Actor is who looked.
	Actor string `json:"actor,omitempty"`
}

// previewGroups is the most groups of a preview.
const previewGroups = 20

// members sums up the items of a preview: the same ones in another order give the same sum.
type members struct {
	sum    [sha256.Size]byte
	groups map[string]*dlq.Group
}

func (m *members) add(it dlq.Item) {
	fingerprint := dlq.Fingerprint(it.LastError)
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", it.ID, it.Reason, it.LastError))
	carry := 0
	for i := range h {
		carry += int(m.sum[i]) + int(h[i])
		m.sum[i], carry = byte(carry), carry>>8
	}
	g := dlq.Group{Sink: it.Sink, Reason: it.Reason, Fingerprint: fingerprint}
	key := g.Sink + " " + g.ID()
	if m.groups == nil {
		m.groups = map[string]*dlq.Group{}
	}
	if m.groups[key] == nil {
		m.groups[key] = &g
	}
	m.groups[key].Count++
}

// largest returns the groups, the largest first, and how many there are beyond them.
func (m *members) largest() (groups []dlq.Group, more int) {
	groups = make([]dlq.Group, 0, len(m.groups))
	for _, g := range m.groups {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b dlq.Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Sink, b.Sink), strings.Compare(a.ID(), b.ID()))
	})
	n := min(len(groups), previewGroups)
	return groups[:n], len(groups) - n
}

// seen is what the preview found, for its Expect.
func (p *Preview) seen(op Operation) {
	p.Groups, p.MoreGroups = p.members.largest()
	if p.Complete {
		p.Expect = &Expect{UpTo: op.upTo(), Count: p.Count, Digest: hex.EncodeToString(p.members.sum[:]), Actor: op.Actor}
	}
}

// upTo is the newest bound of all sinks.
func (o *Operation) upTo() string {
	newest := ""
	for _, p := range o.Sinks {
		if newest == "" || laterID(p.NewestID, newest) {
			newest = p.NewestID
		}
	}
	return newest
}

// boundBy leaves out what came after upTo.
func (o *Operation) boundBy(upTo string) {
	for name, p := range o.Sinks {
		switch {
		case upTo == "":
			delete(o.Sinks, name)
		case p.NewestID != "" && laterID(p.NewestID, upTo):
			p.NewestID = upTo
			o.Sinks[name] = p
		}
	}
}

// laterID reports whether the native id a is later than b.
func laterID(a, b string) bool {
	ms, seq := nativeID(a)
	thenMS, thenSeq := nativeID(b)
	return ms > thenMS || ms == thenMS && seq > thenSeq
}

func nativeID(id string) (ms, seq uint64) {
	a, b, _ := strings.Cut(id, "-")
	ms, _ = strconv.ParseUint(a, 10, 64)
	seq, _ = strconv.ParseUint(b, 10, 64)
	return ms, seq
}

// validateUpTo checks the request's UpTo.
func (r OperationRequest) validateUpTo() error {
	switch {
	case r.UpTo == nil:
		return nil
	case r.Action.journals():
		return invalid("up_to: %s has none; leave it out", r.Action)
	case len(r.IDs) > 0:
		return invalid("up_to: ids say which items; leave it out")
	}
	for sink, native := range r.UpTo {
		if err := fault.CheckName(sink); err != nil {
			return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "up_to", Cause: err}
		}
		if id, err := dlq.ParseID(native); err != nil || id.Sink != "" {
			return invalid("up_to.%s: %.60q is not <ms>-<seq>", sink, native)
		}
	}
	return nil
}

// fixTo leaves out what came after upTo in each sink, and the sinks that it does not name.
func (o *Operation) fixTo(upTo map[string]string) {
	for name, p := range o.Sinks {
		native, named := upTo[name]
		switch {
		case !named:
			delete(o.Sinks, name)
		case p.NewestID != "" && laterID(p.NewestID, native):
			p.NewestID = native
			o.Sinks[name] = p
		}
	}
}

// validateExpect checks the request's Expect.
func (r OperationRequest) validateExpect() error {
	e := r.Expect
	switch {
	case e == nil:
		return nil
	case r.Action.journals():
		return invalid("expect: %s has none; leave it out", r.Action)
	case r.DryRun && *e != Expect{}:
		return invalid("expect: a dry run answers with it; ask with an empty one")
	case !r.DryRun && e.Digest == "":
		return invalid("expect.digest: missing; hand back the expect of a dry run")
	case e.UpTo != "":
		if id, err := dlq.ParseID(e.UpTo); err != nil || id.Sink != "" {
			return invalid("expect.up_to: %.60q is not <ms>-<seq>", e.UpTo)
		}
	}
	return nil
}

// unchanged returns PREVIEW_STALE when the preview is not what was expected. An operation that its
// idempotency key began already is no surprise: it may well have changed what it works on.
func (e *Engine) unchanged(ctx context.Context, r OperationRequest, op Operation, p Preview) error {
	want, got := r.Expect, p.Expect
	why := ""
	switch {
	case want == nil:
		return nil
	case got == nil:
		why = "there are too many dead letters to compare them in time; use a narrower filter"
	case got.Count != want.Count:
		why = fmt.Sprintf("%d dead letters were seen, and %d of them are there", want.Count, got.Count)
	case got.Digest != want.Digest:
		why = "they are as many as were seen, but not the same, or they failed in another way"
	case got.Actor != want.Actor:
		why = "somebody else looked"
	default:
		return nil
	}
	if r.IdempotencyKey != "" {
		if _, err := e.operationStore().Get(ctx, op.ID); fault.CodeOf(err) != fault.CodeDLQNotFound {
			return err
		}
	}
	return &fault.Error{Code: fault.CodePreviewStale, Msg: why + ": look again"}
}
