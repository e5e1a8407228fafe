package dlq

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"backstop/internal/redisconn"
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
	queues, err := r.queues(ctx, c.Sink)
	if err != nil {
		return nil, err
	}
	if len(queues) > 1 {
		return r.claimAcross(ctx, c, queues)
	}
	leased, _, err := r.claim(ctx, c, queues[0], claimBytes)
	return leased, err
}

// claim leases what is due in a queue, of at most so many bytes. Busy reports that it met something: a further call may find more.
func (r *Redis) claim(ctx context.Context, c Claim, queue string, most int) (leased []Leased, busy bool, err error) {
	s, scan := claimScript, claimScan
	if c.Expired {
		s, scan = overdueScript, claimOverdue
	}
	for {
		start := time.Now()
		more, rows, err := r.leaseRows(ctx, s, c, queue, most, c.Limit, scan)
		if err != nil {
			return nil, true, err
		}
		if len(rows) > 0 {
			r.touched(ctx, c.Sink)
		}
		busy = busy || more || len(rows) > 0
		leased := leasedAll(c, rows, start)
		if !c.Expired {
			leased, err = r.adopt(ctx, leased, rows)
		}
		if err != nil || len(leased) > 0 || !more && len(rows) == 0 {
			return leased, busy, err
		}
	}
}

// claimAcross leases what is due in several queues of a sink, oldest due first: it asks all of them when that is, and claims the
// oldest where they are.
func (r *Redis) claimAcross(ctx context.Context, c Claim, queues []string) ([]Leased, error) {
	for {
		order, err := r.peek(ctx, c, queues)
		if err != nil || len(order) == 0 {
			return nil, err
		}
		limits := map[int]int{} // by the queue's index
		for _, i := range order {
			limits[i]++
		}
		parts, busy := make([][]Leased, len(queues)), make([]bool, len(queues))
		err = each(queues, func(i int, queue string) (err error) {
			if limits[i] == 0 {
				return nil
			}
			part := c
			part.Limit = limits[i]
			parts[i], busy[i], err = r.claim(ctx, part, queue, claimBytes/len(limits))
			return err
		})
		var leased []Leased
		for _, i := range order {
			if len(parts[i]) > 0 {
				leased, parts[i] = append(leased, parts[i][0]), parts[i][1:]
			}
		}
		switch {
		case err != nil && len(leased) > 0:
			return leased, nil // whoever asks again is told
		case err != nil:
			return nil, err
		case len(leased) > 0 || !slices.Contains(busy, true):
			return leased, nil
		}
	}
}

// peek returns the queues, by index, that have what is due, in the order in which it is: as many as are to be claimed. None of a
// sink that is paused; and of a claim that was made before those that it was made in, which tell what it leases.
func (r *Redis) peek(ctx context.Context, c Claim, queues []string) ([]int, error) {
	scan := claimScan
	if c.Expired {
		scan = claimOverdue
	}
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue, r.conn.Keys.Claim(queue, c.Token)), Args: []any{c.Limit, claimBytes / len(queues), scan, flags[c.Expired]}}
	}
	answers, err := r.conn.EvalAll(ctx, "claim", peekScript, calls)
	if err != nil {
		return nil, err
	}
	type item struct {
		at    int64
		queue int
	}
	var all []item
	var made []int
	paused := false
	horizon := int64(math.MaxInt64) // of what is due later there may be more than was looked at
	for i, answer := range answers {
		a, ok := answer.([]any)
		if !ok || len(a) < 3 {
			return nil, redisconn.Unexpected("claim", answer)
		}
		paused = paused || i == 0 && a[0] == int64(1) && !c.Expired
		if a[1] == int64(1) {
			made = append(made, slices.Repeat([]int{i}, c.Limit)...)
		}
		for _, v := range a[3:] {
			all = append(all, item{number(v), i})
		}
		if a[2] == int64(1) && len(a) > 3 {
			horizon = min(horizon, number(a[len(a)-1]))
		}
	}
	if paused || len(made) > 0 {
		return made, nil
	}
	slices.SortStableFunc(all, func(a, b item) int { return cmp.Compare(a.at, b.at) })
	var order []int
	for _, it := range all {
		if len(order) == c.Limit || it.at > horizon {
			break
		}
		order = append(order, it.queue)
	}
	return order, nil
}

// take leases items by id, in several calls if there are many. Those that it returns are all before those that it left for a
// further call.
func (r *Redis) take(ctx context.Context, c Claim, natives []string) ([]Leased, error) {
	var out []Leased
	size := 0
	for len(natives) > 0 && len(out) < c.Limit && size < claimBytes {
		part := natives[:min(len(natives), claimIDs, c.Limit-len(out))]
		natives = natives[len(part):]
		found, all, err := r.takePart(ctx, c, part, claimBytes-size)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			r.touched(ctx, c.Sink)
		}
		for _, l := range found {
			size += l.size
			out = append(out, l.Leased)
		}
		if !all {
			break
		}
	}
	return out, nil
}

// taken is an item that was leased by its id.
type taken struct {
	Leased
	at   int // of the id, among those asked for
	size int
}

// takePart makes a call for each queue; all reports that none of them was stopped by the bytes.
func (r *Redis) takePart(ctx context.Context, c Claim, natives []string, most int) (found []taken, all bool, err error) {
	at := make(map[string]int, len(natives))
	byQueue := map[string][]any{}
	var queues []string
	for i, native := range natives {
		at[native] = i
		queue := ID{Sink: c.Sink, Native: native}.queue()
		if byQueue[queue] == nil {
			queues = append(queues, queue)
		}
		byQueue[queue] = append(byQueue[queue], native)
	}
	most = max(most/len(queues), 1)
	parts := make([][]taken, len(queues))
	failed := each(queues, func(q int, queue string) error {
		start := time.Now()
		_, rows, err := r.leaseRows(ctx, takeScript, c, queue, most, append([]any{flags[c.Force], flags[c.Quiet]}, byQueue[queue]...)...)
		for i, l := range leasedAll(c, rows, start) {
			parts[q] = append(parts[q], taken{Leased: l, at: at[rows[i].native], size: rows[i].size})
		}
		return err
	})
	if failed != nil {
		return nil, false, failed
	}
	until := len(natives) // from where on ids are for a further call
	for q, part := range parts {
		size := 0
		for _, l := range part {
			size += l.size
		}
		if last, _ := byQueue[queues[q]][len(byQueue[queues[q]])-1].(string); size >= most && part[len(part)-1].Item.ID != (ID{Sink: c.Sink, Native: last}).String() {
			until = min(until, part[len(part)-1].at+1)
		}
		found = append(found, part...)
	}
	slices.SortFunc(found, func(a, b taken) int { return cmp.Compare(a.at, b.at) })
	keep := len(found)
	for keep > 0 && found[keep-1].at >= until {
		keep--
	}
	var beyond []Lease
	for _, l := range found[keep:] {
		beyond = append(beyond, l.Lease)
	}
	return found[:keep], until == len(natives), r.Release(ctx, beyond)
}

// leaseRow is an item that a script has leased.
type leaseRow struct {
	entry
	left     time.Duration // of the lease, at the time of the script
	canceled bool
}

func (r *Redis) leaseRows(ctx context.Context, s redisconn.Script, c Claim, queue string, most int, args ...any) (more bool, rows []leaseRow, err error) {
	keys := r.conn.Keys.Queue(queue, r.conn.Keys.Claim(queue, c.Token))
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
	byQueue := map[string][]int{}
	for i, id := range ids {
		byQueue[id.queue()] = append(byQueue[id.queue()], i)
	}
	out := make([]SettleResult, len(s))
	for queue, all := range byQueue {
		for len(all) > 0 {
			part := all[:min(len(all), settleItems)]
			all = all[len(part):]
			if err := r.settlePart(ctx, queue, ids, s, part, strike, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (r *Redis) settlePart(ctx context.Context, queue string, ids []ID, s []Settlement, part []int, strike bool, out []SettleResult) error {
	keys := r.conn.Keys.Queue(queue)
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
	sink := sinkOf(queue)
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return err
	}
	limit := r.opts.keptLimit()
	trims := false
	if limit > 0 && len(queues) > 1 {
		limit = 0 // of all queues together
		trims = slices.ContainsFunc(part, func(i int) bool { return s[i].Action == ActionKeep })
	}
	args := []any{limit}
	for _, i := range part {
		st := s[i]
		operation := ""
		if st.Operation != "" {
			operation = r.conn.Keys.Counts(queue, st.Operation)
		}
		args = append(args, ids[i].Native, st.Token, string(st.Action), max(st.Delay, 0).Milliseconds(), flags[st.Charge],
			cut(st.Error, maxErrorText), max(st.Unanswered, 0), numberOf(r.conn.Keys.Claim(queue, st.Token)), numberOf(operation), flags[strike])
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
	if trims {
		return r.trimKept(ctx, sink)
	}
	return nil
}

// Release implements Store.
func (r *Redis) Release(ctx context.Context, leases []Lease) error {
	byQueue := map[string][]any{}
	for _, l := range leases {
		id, err := checkLease(l)
		if err != nil {
			return err
		}
		byQueue[id.queue()] = append(byQueue[id.queue()], id.Native, l.Token)
	}
	for queue, args := range byQueue {
		for len(args) > 0 {
			part := args[:min(len(args), 2*settleItems)]
			args = args[len(part):]
			if _, err := r.conn.Eval(ctx, "release", releaseScript, r.conn.Keys.Queue(queue), part...); err != nil {
				return err
			}
		}
	}
	return nil
}
