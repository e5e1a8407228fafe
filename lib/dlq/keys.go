package dlq

import "strings"

// Every key of the Redis backend, its fields, and who writes it. The braces hold the
// whole stream key, so that a queue's keys share the stream's cluster slot and every
// script touches one slot.
//
//	<prefix>:sinks            set     every sink that ever had a dead letter: added before a
//	                                  sink's first push by each process, and repeated; and once a
//	                                  queue that others filled is asked for by its name (redis.go).
//	                                  Others who write to a stream add its sink here themselves
//	<prefix>:dlq:<sink>       stream  one entry per dead letter (push; removed by settle, discard
//	                                  and a trimming push). Others may append entries with the
//	                                  field item alone:
//	    item                          the Item's JSON; the part that never changes
//	    k                             push key: hash of delivery id, replays and origin
//	    g                             group: hash of reason and fingerprint; empty over MaxGroups
//	    n                             not before: 0, Unix ms by the server's clock, or never
//	    f                             fingerprint of the content; older versions wrote none
//	{<prefix>:dlq:<sink>}:meta  hash
//	    cursor                        entries after it are due since their push (claim)
//	    idle                          entries that are delivered, parked or waiting, leased ones
//	                                  included (push, settle, unpark, and all that remove)
//	    parked                        entries with a parked state (settle, unpark, removals)
//	    trimmed                       entries removed by overflow, ever (push, settle)
//	    paused                        1 while the schedule leaves the sink alone (pause)
//	    gate, gate_until              token and end (Unix ms) of the canary's gate (gate)
//	    mended, mend_at               when the last pass of mend ended, and its last step was (Unix
//	                                  ms; push into an empty stream, mend)
//	    mend                          where a pass is that is under way (mend)
//	    recount, recount:*            the last entry that it counted, and its numbers, which settle,
//	                                  unpark and removals keep true (mend)
//	{...}:due     zset    native id -> Unix ms: when an entry is due that is rescheduled or has a
//	                      not-before, or when its lease ends (push, claim, take, settle, release,
//	                      unpark, removals). Fresh entries are not in it
//	{...}:lease   hash    native id -> prior|push key|group|token (claim, take; removed by settle,
//	                      release, unpark and removals). prior: the Unix ms at which it was due, or -
//	{...}:state   hash    native id -> JSON of a replayed entry's replays, history, parked, held,
//	                      delivered_at (settle, unpark, removals), deaths, begun: processes that
//	                      died under it since an outcome, and the token of a lease under which
//	                      its replay began (claim, take, begin; removed by settle)
//	{...}:ids     hash    push key -> one native id, or <fingerprint>:<native id> of each content,
//	                      oldest first, a space in between (push; removed with its entry, and once
//	                      it is kept). One that stands alone leads to an entry that tells its
//	                      content, or that an older version pushed
//	{...}:groups  hash    n:<group> -> count, t:<group> -> fingerprint, line feed, reason (push,
//	                      removals)
//	{...}:kept    zset    native id -> push time of entries kept after delivery (settle, removals)
//	{...}:claim:<token>   hash, TTL   native id -> '' (leased; claim, take) or s (settled; settle)
//	{...}:op:<operation>  hash        settled, delivered, failed, discarded (settle), with a TTL
//	                                  once the operation is final (EndOperation): a cache may
//	                                  evict what has one
//
// What others remove from a stream leaves orphans beside it, and counts that are wrong. A
// push into an empty stream begins anew; a pass of mend, which Stats drives step by step,
// forgets the orphans and counts anew: at once where there is more beside a stream than in
// it, else every hour. Nothing rests on the counts.
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
