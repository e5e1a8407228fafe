package dlq

import "strings"

// Every key of the Redis backend, its fields, and who writes it. The braces hold the
// whole stream key, so that a queue's keys share the stream's cluster slot and every
// script touches one slot.
//
//	<prefix>:sinks            set     every sink that ever had a dead letter: added before a
//	                                  sink's first push by each process, and repeated (redis.go)
//	<prefix>:dlq:<sink>       stream  one entry per dead letter (push; removed by settle, discard
//	                                  and a trimming push). Others may append entries with the
//	                                  field item alone:
//	    item                          the Item's JSON; the part that never changes
//	    k                             push key: hash of delivery id, replays and origin
//	    g                             group: hash of reason and fingerprint; empty over MaxGroups
//	    n                             not before: 0, Unix ms, or never
//	{<prefix>:dlq:<sink>}:meta  hash
//	    cursor                        entries after it are due since their push (claim)
//	    idle                          entries that are not due by themselves: never, parked, held,
//	                                  kept (push, settle, unpark, and all that remove)
//	    parked                        entries with a parked state (settle, unpark, removals)
//	    trimmed                       entries removed by overflow, ever (push)
//	    paused                        1 while the schedule leaves the sink alone (pause)
//	    gate, gate_until              token and end (Unix ms) of the canary's gate (gate)
//	{...}:due     zset    native id -> Unix ms: when an entry is due that is rescheduled or has a
//	                      not-before, or when its lease ends (push, claim, take, settle, release,
//	                      unpark, removals). Fresh entries are not in it
//	{...}:lease   hash    native id -> prior|push key|group|token (claim, take; removed by settle,
//	                      release, unpark and removals). prior: the Unix ms at which it was due, or -
//	{...}:state   hash    native id -> JSON of a replayed entry's replays, history, parked, held,
//	                      delivered_at (settle, unpark, removals), deaths, begun: processes that
//	                      died under it since an outcome, and the token of a lease under which
//	                      its replay began (claim, take, begin; removed by settle)
//	{...}:ids     hash    push key -> native id (push; removed with its entry, and once it is kept)
//	{...}:groups  hash    n:<group> -> count, t:<group> -> fingerprint, line feed, reason (push,
//	                      removals)
//	{...}:kept    zset    native id -> push time of entries kept after delivery (settle, removals)
//	{...}:claim:<token>   hash, TTL   native id -> '' (leased; claim, take) or s (settled; settle)
//	{...}:op:<operation>  hash        settled, delivered, failed, discarded (settle), with a TTL
//	                                  once the operation is final (EndOperation): a cache may
//	                                  evict what has one
//
// An entry that others remove from the stream is forgotten when the scripts come across
// it; only its group's count stays.
type keys struct{ prefix string }

func (k keys) sinks() string { return k.prefix + ":sinks" }

func (k keys) stream(sink string) string { return k.prefix + ":dlq:" + sink }

func (k keys) companion(sink, name string) string { return "{" + k.stream(sink) + "}:" + name }

func (k keys) claim(sink, token string) string { return k.companion(sink, "claim:"+token) }

func (k keys) operation(sink, operation string) string { return k.companion(sink, "op:"+operation) }

var companions = strings.Fields("meta due lease state ids groups kept")

// queue returns KEYS[1..8] of every script, with more appended.
func (k keys) queue(sink string, more ...string) []string {
	all := make([]string, 0, 1+len(companions)+len(more))
	all = append(all, k.stream(sink))
	base := k.companion(sink, "")
	for _, c := range companions {
		all = append(all, base+c)
	}
	return append(all, more...)
}
