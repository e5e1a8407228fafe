package dlq

import (
	"context"
	"time"

	"backstop/internal/redisconn"

	"github.com/redis/go-redis/v9"
)

// Bounds of one call of the scripts that lease and settle, which keep them short.
const (
	claimBytes     = 1 << 20 // payload of one claim
	claimScan      = 250     // fresh entries that one call looks at
	claimOverdue   = 1000    // entries whose time is over that one call looks at
	claimIDs       = 50      // ids of one call
	claimRetention = 10 * time.Minute
	settleItems    = 50 // ten arguments and up to two keys each
)

// Claim implements Store.
func (r *Redis) Claim(ctx context.Context, c Claim) ([]Leased, error) {
	c, natives, err := checkClaim(c)
	if err != nil {
		return nil, err
	}
	if len(natives) > 0 {
		return r.take(ctx, c, natives)
	}
	s, scan := claimScript, claimScan
	if c.Expired {
		s, scan = overdueScript, claimOverdue
	}
	for {
		start := time.Now()
		more, rows, err := r.leaseRows(ctx, s, c, claimBytes, c.Limit, scan)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			r.touched(ctx, c.Sink)
		}
		leased := leasedAll(c, rows, start)
		if !c.Expired {
			leased, err = r.adopt(ctx, leased, rows)
		}
		if err != nil || len(leased) > 0 || !more && len(rows) == 0 {
			return leased, err
		}
	}
}

// take leases items by id, in several calls if there are many.
func (r *Redis) take(ctx context.Context, c Claim, natives []string) ([]Leased, error) {
	force, quiet := "0", "0"
	if c.Force {
		force = "1"
	}
	if c.Quiet {
		quiet = "1"
	}
	var out []Leased
	size := 0
	for len(natives) > 0 && len(out) < c.Limit && size < claimBytes {
		part := natives[:min(len(natives), claimIDs, c.Limit-len(out))]
		natives = natives[len(part):]
		args := []any{force, quiet}
		for _, n := range part {
			args = append(args, n)
		}
		start := time.Now()
		_, rows, err := r.leaseRows(ctx, takeScript, c, claimBytes-size, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, leasedAll(c, rows, start)...)
		if len(rows) > 0 {
			r.touched(ctx, c.Sink)
		}
		for _, row := range rows {
			size += row.size
		}
		if len(rows) > 0 && size >= claimBytes {
			break
		}
	}
	return out, nil
}

// leaseRow is an item that a script has leased.
type leaseRow struct {
	entry
	left     time.Duration // of the lease, at the time of the script
	canceled bool
}

func (r *Redis) leaseRows(ctx context.Context, s *redis.Script, c Claim, most int, args ...any) (more bool, rows []leaseRow, err error) {
	keys := r.conn.Keys.Queue(c.Sink, r.conn.Keys.Claim(c.Sink, c.Token))
	answer, err := r.conn.Eval(ctx, "claim", s, keys, append([]any{c.Token, c.TTL.Milliseconds(), most}, args...)...)
	if err != nil {
		return false, nil, err
	}
	rows, more, err = r.rowsOf(ctx, c.Sink, answer)
	return more, rows, err
}

// rowsOf reads the answer of a script that leases.
func (r *Redis) rowsOf(ctx context.Context, sink string, answer any) (rows []leaseRow, more bool, err error) {
	more, list, flags, err := moreAndRows("claim", answer)
	if err != nil {
		return nil, false, err
	}
	for i, row := range list {
		if len(row) != 5 {
			return nil, false, redisconn.Unexpected("claim", answer)
		}
		e := entry{sink: sink, native: text(row[0]), journaled: r.opts.journal}
		if prior := row[2]; text(prior) != idlePrior {
			e.due = number(prior)
		}
		e.setState(text(row[3]))
		e.setFields(pairs(row[4]))
		e.size = len(e.item)
		lr := leaseRow{entry: e, left: time.Duration(number(row[1])) * time.Millisecond}
		if len(flags) > 0 {
			if lr.canceled, err = r.isCanceled(ctx, e, flags[i] == int64(1)); err != nil {
				return nil, false, err
			}
		}
		rows = append(rows, lr)
	}
	return rows, more, nil
}

// isCanceled asks again where the entry does not tell its delivery's key: others wrote it, or an
// older version.
func (r *Redis) isCanceled(ctx context.Context, e entry, flagged bool) (bool, error) {
	id := e.pushed().DeliveryID
	if flagged || id == "" || deliveryKey(e.pushKey) == firstKey(id) {
		return flagged, nil
	}
	return r.Canceled(ctx, e.sink, id)
}

// idlePrior stands in a lease for an entry that was not due by itself.
const idlePrior = "-"

// moreAndRows reads {more, {row...}, {flag...}}: a flag for each row, or none.
func moreAndRows(op string, answer any) (more bool, rows [][]any, flags []any, err error) {
	a, ok := answer.([]any)
	if !ok || len(a) != 3 {
		return false, nil, nil, redisconn.Unexpected(op, answer)
	}
	list, ok := a[1].([]any)
	if !ok {
		return false, nil, nil, redisconn.Unexpected(op, answer)
	}
	flags, ok = a[2].([]any)
	if !ok || len(flags) > 0 && len(flags) != len(list) {
		return false, nil, nil, redisconn.Unexpected(op, answer)
	}
	for _, v := range list {
		row, ok := v.([]any)
		if !ok {
			return false, nil, nil, redisconn.Unexpected(op, answer)
		}
		rows = append(rows, row)
	}
	return a[0] == int64(1), rows, flags, nil
}

// pairs reads field, value, field, value, ...; the first of a repeated field counts, as
// it does in the scripts' answers.
func pairs(v any) map[string]string {
	list, _ := v.([]any)
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		m[text(list[i])] = text(list[i+1])
	}
	return m
}

// leasedAll turns rows into leases. Their ends count from before the call, so that they
// are never later than the server's.
func leasedAll(c Claim, rows []leaseRow, start time.Time) []Leased {
	out := make([]Leased, len(rows))
	for i, row := range rows {
		out[i] = Leased{
			Lease: Lease{ID: row.id().String(), Token: c.Token, Expires: start.Add(row.left), Journal: row.address()},
			Item:  row.decode(), Canceled: row.canceled,
		}
	}
	return out
}

// adopt looks at entries that others wrote, which have just been claimed because their
// place in the stream made them due. Those that cannot be read, or whose reason or
// not-before forbids it, are put aside.
func (r *Redis) adopt(ctx context.Context, leased []Leased, rows []leaseRow) ([]Leased, error) {
	var mine []Leased
	var aside []Settlement
	for i, l := range leased {
		switch state := l.Item.State(time.Now()); {
		case rows[i].notBefore != "" && state != StateUnreadable:
			mine = append(mine, l)
		case l.Item.Reason == ReasonExpired:
			aside = append(aside, Settlement{Lease: l.Lease, Action: ActionExpire})
		case state == StateUnreadable, state == StateWaiting:
			aside = append(aside, Settlement{Lease: l.Lease, Action: ActionHold})
		case time.Until(l.Item.NotBefore) > 0:
			aside = append(aside, Settlement{Lease: l.Lease, Action: ActionRetry, Delay: time.Until(l.Item.NotBefore)})
		default:
			mine = append(mine, l)
		}
	}
	if len(aside) == 0 {
		return mine, nil
	}
	_, err := r.settleAll(ctx, aside, true)
	return mine, err
}

// Settle implements Store.
func (r *Redis) Settle(ctx context.Context, s []Settlement) ([]SettleResult, error) {
	return r.settleAll(ctx, s, false)
}

func (r *Redis) settleAll(ctx context.Context, s []Settlement, strike bool) ([]SettleResult, error) {
	ids, err := checkSettlements(s)
	if err != nil {
		return nil, err
	}
	bySink := map[string][]int{}
	for i, id := range ids {
		bySink[id.Sink] = append(bySink[id.Sink], i)
	}
	out := make([]SettleResult, len(s))
	for sink, all := range bySink {
		for len(all) > 0 {
			part := all[:min(len(all), settleItems)]
			all = all[len(part):]
			if err := r.settlePart(ctx, sink, ids, s, part, strike, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (r *Redis) settlePart(ctx context.Context, sink string, ids []ID, s []Settlement, part []int, strike bool, out []SettleResult) error {
	keys := r.conn.Keys.Queue(sink)
	numbers := map[string]int{"": 0}
	numberOf := func(key string) int {
		n, ok := numbers[key]
		if !ok {
			keys = append(keys, key)
			n = len(keys)
			numbers[key] = n
		}
		return n
	}
	args := []any{r.opts.keptLimit()}
	for _, i := range part {
		st := s[i]
		operation := ""
		if st.Operation != "" {
			operation = r.conn.Keys.Counts(sink, st.Operation)
		}
		args = append(args, ids[i].Native, st.Token, string(st.Action), max(st.Delay, 0).Milliseconds(), flags[st.Charge],
			cut(st.Error, maxErrorText), max(st.Unanswered, 0), numberOf(r.conn.Keys.Claim(sink, st.Token)), numberOf(operation), flags[strike])
	}
	answer, err := r.conn.Eval(ctx, "settle", settleScript, keys, args...)
	if err != nil {
		return err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != len(part)+1 {
		return redisconn.Unexpected("settle", answer)
	}
	if dropped := number(a[len(part)]); dropped > 0 {
		r.opts.onTrim(sink, int(dropped))
	}
	for j, i := range part {
		out[i] = SettleFenced
		if a[j] == int64(1) {
			out[i] = SettleApplied
		}
	}
	return nil
}

// Release implements Store.
func (r *Redis) Release(ctx context.Context, leases []Lease) error {
	bySink := map[string][]any{}
	for _, l := range leases {
		id, err := checkLease(l)
		if err != nil {
			return err
		}
		bySink[id.Sink] = append(bySink[id.Sink], id.Native, l.Token)
	}
	for sink, args := range bySink {
		for len(args) > 0 {
			part := args[:min(len(args), 2*settleItems)]
			args = args[len(part):]
			if _, err := r.conn.Eval(ctx, "release", releaseScript, r.conn.Keys.Queue(sink), part...); err != nil {
				return err
			}
		}
	}
	return nil
}
