package dlq

import (
	"context"
	"fmt"
	"strings"
	"time"

	"backstop/internal/redisconn"
)

// Supersede implements Successions.
func (r *Redis) Supersede(ctx context.Context, s Succession) (Leased, error) {
	c, err := checkSuccession(s, time.Now())
	if err != nil {
		return Leased{}, err
	}
	if err := r.remember(ctx, c.item.Sink); err != nil {
		return Leased{}, err
	}
	if c.same() {
		return r.succeed(ctx, s, c)
	}
	noted, by, as, err := r.superseded(ctx, c.former, s.Token, c.item.Sink, c.as())
	if err != nil {
		return Leased{}, err
	}
	if !noted && by == "" {
		return Leased{}, lostError(c.former, "it was superseded")
	}
	if !noted {
		return r.heirOf(ctx, s, c, by, as)
	}
	l, err := r.succeed(ctx, s, c)
	if err != nil {
		return Leased{}, err
	}
	noted, by, _, err = r.superseded(ctx, c.former, s.Token, l.ID, c.as())
	if err == nil && !noted {
		err = supersededError(c.former, by) // while this was late: what was pushed must not be sent
		if l.Token != "" {
			_, dropErr := r.Settle(ctx, []Settlement{{Lease: l.Lease, Action: ActionDrop}})
			err = joined(err, dropErr)
		}
	}
	return l, err
}

// succeed stores the new one, and holds the superseded one where that is in the same queue.
func (r *Redis) succeed(ctx context.Context, s Succession, c succession) (Leased, error) {
	sink, e, former := c.item.Sink, c.entry, ""
	queue, others, err := r.home(ctx, sink, deliveryKey(e.pushKey))
	if err != nil {
		return Leased{}, err
	}
	if c.same() {
		former = c.former.Native
		queue = c.former.queue() // wherever pushes go now: all is one step there
	} else if len(others) > 0 {
		there, err := r.around(ctx, queue, []push{{entry: e, delivery: deliveryKey(e.pushKey), others: others}})
		if err != nil {
			return Leased{}, err
		}
		if other, ok := there[0]; ok {
			queue = other.id().queue()
		}
	}
	most := 0
	if r.opts.overflow == OverflowReject {
		if most, err = r.most(ctx, sink, queue, r.opts.maxLen); err != nil {
			return Leased{}, err
		}
	}
	address := e.journal
	if address == "" && r.opts.journal {
		address = "@"
	}
	keys := r.conn.Keys.Queue(queue, r.conn.Keys.Claim(queue, s.Token))
	for known := []string{}; ; {
		start := time.Now()
		answer, err := r.conn.Eval(ctx, "supersede", supersedeScript, keys, s.Token, s.TTL.Milliseconds(), 0, former, sink+"~", most,
			MaxGroups, maxContents, strings.Join(known, " "), e.pushKey, e.content, e.group, e.groupText, e.when(), e.item, address)
		if err != nil {
			return Leased{}, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) != 3 {
			return Leased{}, redisconn.Unexpected("supersede", answer)
		}
		switch status, native := text(a[0]), text(a[1]); status {
		case "stored", "exists":
			rows, _, err := r.rowsOf(ctx, sink, a[2])
			if err != nil {
				return Leased{}, err
			}
			if leased := leasedAll(Claim{Sink: sink, Token: s.Token}, rows, start); len(leased) == 1 {
				return leased[0], nil
			}
			it := c.item
			it.ID = ID{Sink: sink, Native: native}.String()
			return Leased{Lease: Lease{ID: it.ID}, Item: it}, nil
		case "superseded":
			return r.heirOf(ctx, s, c, native, text(a[2]))
		case "fenced":
			return Leased{}, lostError(c.former, "it was superseded")
		case "full":
			return Leased{}, overflowError(sink, r.opts.maxLen)
		case "compare":
			other := entry{sink: sink, native: native, item: text(a[2])}
			fact := other.fingerprint() + ":" + native
			if len(known) > 0 && known[len(known)-1] == fact {
				return Leased{}, redisconn.Unexpected("supersede", answer)
			}
			known = append(known, fact)
		default:
			return Leased{}, redisconn.Unexpected("supersede", answer)
		}
	}
}

// heirOf answers for a dead letter that is superseded by this public id already: by the same content it is a
// repetition.
func (r *Redis) heirOf(ctx context.Context, s Succession, c succession, by, as string) (Leased, error) {
	id, err := ParseID(by)
	if err != nil {
		return Leased{}, err
	}
	if as != c.as() || id.Sink != c.item.Sink {
		return Leased{}, supersededError(c.former, by)
	}
	leased, err := r.Claim(ctx, Claim{Sink: id.Sink, IDs: []string{by}, Token: s.Token, TTL: s.TTL})
	if err == nil && len(leased) == 1 {
		return leased[0], nil
	}
	it := c.item
	it.ID = by
	return Leased{Lease: Lease{ID: by}, Item: it}, err
}

// superseded notes that an item is superseded, or about to be. It returns the public id and the identity of what
// supersedes it already, if anything does.
func (r *Redis) superseded(ctx context.Context, former ID, token, by, as string) (noted bool, heir, heirAs string, err error) {
	answer, err := r.conn.Eval(ctx, "superseded", supersededScript, r.conn.Keys.Queue(former.queue()), former.Native, token, by, as)
	if err != nil {
		return false, "", "", err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 3 {
		return false, "", "", redisconn.Unexpected("superseded", answer)
	}
	return a[0] == int64(1), text(a[1]), text(a[2]), nil
}

// NoteSuperseded implements Successions.
func (r *Redis) NoteSuperseded(ctx context.Context, by Item) (bool, error) {
	former, heir, err := checkHeir(by)
	if err != nil {
		return false, err
	}
	noted, _, _, err := r.superseded(ctx, former, "", heir.String(), ":"+contentOf(by))
	return noted, err
}

func joined(err, other error) error {
	if other == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, other)
}
