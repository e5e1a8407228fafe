package redisconn

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"backstop/lib/fault"
)

// DefaultPrefix is the prefix of all keys where nothing else is said.
const DefaultPrefix = "backstop"

// PrefixForm is the form of a prefix, as errors show it.
const PrefixForm = `^[a-z0-9][a-z0-9._:-]{0,63}$`

// CheckPrefix returns INVALID_ARGUMENT unless prefix can be the prefix of all keys
// (PrefixForm). Braces would split the slots of a cluster.
func CheckPrefix(prefix string) error {
	if !fault.IsName(prefix, "._:-") {
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("key prefix %.80q does not match %s", prefix, PrefixForm)}
	}
	return nil
}

// Keys are all keys of the system. This is the one list of them, of their fields, and of who
// writes each: a new key gets its line here, and a method.
//
// Dead letters (lib/dlq; the names in brackets are its scripts). The braces hold the whole
// stream key, so that a queue's keys share the stream's cluster slot and every script
// touches one slot.
//
//	<prefix>:sinks            set     every sink that ever had a dead letter: added before a
//	                                  sink's first push by each process, and repeated; and once a
//	                                  queue that others filled is asked for by its name.
//	                                  Others who write to a stream add its sink here themselves
//	<prefix>:dlq:~shards      hash    of each sink that ever had more than one shard: "<most> <since, Unix
//	                                  ms> <before>" (shards). The queue of shard s > 0 has all keys below
//	                                  with <sink>~<s> for <sink>, but for what is of the whole sink, which
//	                                  is with shard 0: paused, gate, journal, journal_seen, flow, holds
//	                                  and rates
//	<prefix>:ticked           string  when the last run of the schedule ended well, Unix ms (Beat)
//	<prefix>:dlq:<sink>       stream  one entry per dead letter (push; removed by settle, discard
//	                                  and a trimming push). Others may append entries with the
//	                                  field item alone:
//	    item                          the Item's JSON; the part that never changes
//	    k                             push key: hash of delivery id, replays and origin; after
//	                                  the first generation <own>,<that of the first>
//	    g                             group: hash of reason and fingerprint; empty over MaxGroups
//	    n                             not before: 0, Unix ms by the server's clock, or never
//	    f                             fingerprint of the content; older versions wrote none
//	    x                             expiry, Unix ms; none without one
//	    j                             address in the journal; none of an entry without one
//	{<prefix>:dlq:<sink>}:meta  hash
//	    cursor                        entries after it are due since their push (claim)
//	    idle                          entries that are delivered, expired, parked or waiting, leased
//	                                  ones included (push, settle, unpark, and all that remove)
//	    parked                        entries with a parked state (settle, unpark, removals)
//	    expired                       entries that are marked as expired (push, settle, removals)
//	    trimmed                       entries removed by overflow, ever (push, settle)
//	    retired                       entries removed for their age, ever (retire)
//	    retire_at                     the last entry that retire looked at, while there are others
//	    new                           groups that are new and that nobody was told of yet, a space in
//	                                  between (push, return; told)
//	    paused                        1 while the schedule leaves the sink alone (pause)
//	    gate, gate_until              token and end (Unix ms) of the canary's gate (gate)
//	    mended, mend_at               when the last pass of mend ended, and its last step was (Unix
//	                                  ms; push into an empty stream, mend)
//	    mend                          where a pass is that is under way (mend)
//	    recount, recount:*            the last entry that it counted, and its numbers, which settle,
//	                                  unpark and removals keep true (mend)
//	    journal_token, journal_until  who works on the journal, and until when, Unix ms
//	                                  (journal_lease)
//	    journal_seen                  when somebody worked on it last, Unix ms (journal_lease)
//	    journal                       JSON of dlq.JournalNotes (journal_save)
//	    journal_to                    entries without j up to this one are noted as unjournaled:
//	                                  there is a journal (mend; push, return and
//	                                  NoteUnjournaled: 0-0, which is none)
//	{...}:due     zset    native id -> Unix ms: when an entry is due that is rescheduled or has a
//	                      not-before, or when its lease ends (push, claims, settle, release,
//	                      unpark, removals). Fresh entries are not in it
//	{...}:lease   hash    native id -> prior|push key|group|token, |quiet where nothing is sent under it
//	                      (else |, if more follows), and |address of an entry that has one (claims:
//	                      claim, take, overdue, delivery; removed by settle, release, unpark and
//	                      removals). prior: the Unix ms at which it was due, or -
//	{...}:state   hash    native id -> JSON of an entry's replays, history, parked, held, unanswered,
//	                      expired: when it was marked (push), delivered_at (settle, unpark,
//	                      removals), deaths, begun: processes that died under it since an
//	                      outcome, and the token of a lease under which its replay began
//	                      (claims, begin; removed by settle), superseded_by, superseded_as: the
//	                      public id of the entry that supersedes it (before that is known, its
//	                      sink), and that one's push key, a colon and its content's fingerprint
//	                      (supersede, superseded, return)
//	{...}:ids     hash    push key -> one native id, or <fingerprint>:<native id> of each content,
//	                      oldest first, a space in between (push; removed with its entry, and once
//	                      it is kept). One that stands alone leads to an entry that tells its
//	                      content, or that an older version pushed
//	{...}:generations  zset  <push key of the first generation> <native id>, all with score 0: what
//	                      ids does not tell of a delivery by that key, which are its later
//	                      generations, and contents beyond the newest hundred (push; removed
//	                      with the entry, and once it is kept)
//	{...}:expires zset    native id -> Unix ms: when an entry's time is over that is neither marked
//	                      as expired nor kept (push; settle, removals)
//	{...}:canceled  zset  push key of the first generation -> Unix ms: until when it is noted that
//	                      a delivery is canceled (delivery; prune, Uncancel). Without TTL, and it
//	                      outlives the entries
//	{...}:ended   set     addresses in the journal of entries that are over, @<native id> of those
//	                      without one (removals, settle that keeps, push and return of what is
//	                      there under another address, NoteEnded; removed by journaled). It outlives
//	                      the entries
//	{...}:unjournaled  set  native ids of entries that the journal lacks, and s:<native id> of those
//	                      whose parked or held it lacks (settle, unpark, push, return, mend,
//	                      NoteUnjournaled; removed by journaled, and once the entry is gone)
//	{...}:groups  hash    n:<group> -> count, t:<group> -> fingerprint, line feed, reason (push,
//	                      removals)
//	{...}:causes  hash    of each group, also of those that are empty by now: f:<group> Unix ms of its
//	                      first entry, l:<group> native id of its newest, t:<group> its text as in
//	                      groups (push, return, mend), note:<group> JSON of a dlq.GroupNote
//	                      (group_note). Forgotten a month after the last of them (mend)
//	{...}:history hash    m, h or d, number of the 5 minutes, the hour or the day since 1970, :<group>
//	                      -> how many entries came then, times 2^26, and how many of them are still
//	                      there (push, return, removals; mend, which forgets what is old)
//	{...}:kept    zset    native id -> push time of entries kept after delivery (settle, removals)
//	{...}:flow    hash    receiver -> JSON of a flow.State: "sink" is the sink's own, "rest" that of all
//	                      beyond the first thousand (lib/flow: swap). It goes after a week without a
//	                      change
//	{...}:holds   zset, TTL   hash of a rate key (a chat, a number) -> Unix us: until when it is held, odd
//	                      while an attempt probes. At most a thousand, those that end last (lib/flow: hold)
//	{...}:rate:<hash>   string, TTL   "<real> <spaced>", Unix us: the cursors of the rate of a receiver, or
//	                                  of one of its rate keys (lib/flow: rate)
//	{...}:claim:<token>   hash, TTL   native id -> '' (leased; claims) or s (settled; settle)
//	{...}:op:<operation>  hash        settled, delivered, failed, discarded (settle); those of a
//	                                  round after the first: <operation>.<round>. With a TTL
//	                                  once the operation is final (EndOperation): a cache may
//	                                  evict what has one
//
// What others remove from a stream leaves orphans beside it, and counts that are wrong. A
// push into an empty stream begins anew; a pass of mend, which Stats drives step by step,
// forgets the orphans and counts anew: at once where there is more beside a stream than in
// it, else every hour. Nothing rests on the counts.
//
// Records of deliveries (lib/delivery; find and keep of record.lua). One that was simply delivered, as nearly all are, is a
// field of a bucket, and no key of its own: in a tenth of the memory, for as long as Redis packs the bucket. A record is in one
// place. Its buckets are in the cluster's slot of its own key, so that a script reaches all of them: in each of the 16,384
// slots and three turns there is one on the first level, 8 on the next, 64 and 512 on those after it:
//
//	<prefix>:delivery:<hash>  string, TTL   the record of a sink and a delivery id, JSON: the
//	                                  Record's fields, token (its owner), until_ms (the end of
//	                                  the owner's lease, Unix ms), taken (how the owner got it),
//	                                  left (it was handed back), former (the record before it
//	                                  was canceled), pending (events that are not told yet; move,
//	                                  pending)
//	<prefix>:delivery:{<slot>}:<turn>:<n>  hash, TTL   what was delivered in a turn (so many ms) of the clock of Redis; the three
//	                                  take turns, and each goes before its next one. The first level
//	<prefix>:delivery:{<slot>}:<turn>:<n>:<bucket>  hash, TTL   the same on the deeper levels: buckets 1 to 8, 9 to 72, 73 to 584
//	    levels                        on the first level: digits of the deeper ones that the turn uses, from 1; none while it
//	                                  needs no other
//	    <12 bytes of the hash>        9 characters of the fingerprint; then, big endian, updated_at in ms since its
//	                                  turn began (4 bytes), attempts (5 bits) and which of the last three there are
//	                                  (3 bits), how long after began_at that was in ms, and 1 (2 bytes; 0: began_at is not
//	                                  known); accepted_at, not_before, expires_at (Unix ms, 8 bytes each)
//	<prefix>:events           zset    <sink> <delivery id> -> Unix ms: deliveries whose pending events
//	                                  nobody else sends: the schedule does (Owe, Paid)
//
// Bulk operations (lib/replay; operation_create, _take, _save, _cancel, _resume). An id is in ops:open
// before its hash exists, so that no operation is forgotten:
//
//	<prefix>:op:<id>          hash, with a TTL once it is final: a cache may evict what has one
//	    doc                           the operation as created, JSON, its sinks included (create)
//	    status, error                 as in Operation (create, take, save, cancel, resume)
//	    recipient                     whose dead letters it erases: a keyed hash and its key, until it
//	                                  is final (create; save, cancel)
//	    started, finished             Unix ms (take; save, cancel)
//	    round, resumed                as in Operation, absent before the second; token of the call
//	                                  that began it (resume)
//	    owner, until                  who works on it, and until when, Unix ms (take, save)
//	    stalled                       how often it was taken since it last got on (take, save)
//	    sink:<name>                   SinkProgress, JSON, once there is any (save, resume)
//	<prefix>:ops              zset    ids by creation (Unix ms); old ones go once they are not open
//	<prefix>:ops:open         zset    the same of those that are not final, and perhaps others
type Keys struct{ prefix string }

// Sinks is the set of all sinks.
func (k Keys) Sinks() string { return k.prefix + ":sinks" }

// Shards says over how many queues the dead letters of sinks are spread. No sink has such a name, and who may use the streams may use it.
func (k Keys) Shards() string { return k.Stream("~shards") }

// Ticked is when the schedule ran last.
func (k Keys) Ticked() string { return k.prefix + ":ticked" }

// Stream holds the dead letters of a sink.
func (k Keys) Stream(sink string) string { return k.prefix + ":dlq:" + sink }

// Companion is a key beside the stream of a sink.
func (k Keys) Companion(sink, name string) string { return "{" + k.Stream(sink) + "}:" + name }

// Claim is what a claim's token leased of a sink.
func (k Keys) Claim(sink, token string) string { return k.Companion(sink, "claim:"+token) }

// Rate is the rate of a receiver of a sink (empty: of the sink's own), or of what it is counted by.
func (k Keys) Rate(sink, receiver string) string {
	sum := sha256.Sum256([]byte(receiver))
	return k.Companion(sink, "rate:"+hex.EncodeToString(sum[:8]))
}

// Counts are what a bulk operation settled of a sink.
func (k Keys) Counts(sink, operation string) string { return k.Companion(sink, "op:"+operation) }

var companions = strings.Fields("meta due lease state ids groups kept expires generations canceled ended unjournaled causes history")

// Queue returns KEYS[1..15] of every script that works on a sink's queue, with more appended.
func (k Keys) Queue(sink string, more ...string) []string {
	all := make([]string, 0, 1+len(companions)+len(more))
	all = append(all, k.Stream(sink))
	base := k.Companion(sink, "")
	for _, c := range companions {
		all = append(all, base+c)
	}
	return append(all, more...)
}

// Turn is how long the turn of a bucket of records is, with a time to live for records: half of that, or less than all of it. It is the
// same for times to live that are near, so that what was kept before such a change is found.
func Turn(ttl time.Duration) time.Duration {
	turn := 12 * time.Hour
	for 2*turn < ttl {
		turn *= 2
	}
	for turn >= ttl && turn >= 2*time.Millisecond {
		turn /= 2
	}
	return turn
}

// Buckets of records are on levels: in one slot of a cluster there is one on the first, and more times as many on each deeper one.
const (
	turns        = 3
	bucketsMore  = 8
	deepestLevel = 3
)

// Record names what a script needs to find the record of a delivery: the record's own key; the bucket on the first level for each of
// the three turns (see Turn); the same for each of levels, which are digits from 1 to 3; and its field in all of these. The hash is fixed in
// length and free of characters that mean something in a key.
func (k Keys) Record(sink, id string, ttl time.Duration, levels string) (keys []string, field string) {
	h := sha256.New()
	_, _ = io.WriteString(h, sink+"\x00"+id)
	sum := h.Sum(nil)[:16]
	own := k.prefix + ":delivery:" + hex.EncodeToString(sum)
	base := k.prefix + ":delivery:{" + tagOf(slotOf(own)) + "}:" + strconv.FormatInt(Turn(ttl).Milliseconds(), 10) + ":"
	keys = append(make([]string, 0, 1+turns*(1+len(levels))), own)
	add := func(suffix string) {
		for turn := range turns {
			keys = append(keys, base+strconv.Itoa(turn)+suffix)
		}
	}
	add("")
	which := binary.BigEndian.Uint32(sum)
	first, many := uint32(0), uint32(1)
	for level := range deepestLevel {
		first, many = first+many, many*bucketsMore
		if strings.Contains(levels, strconv.Itoa(level+1)) {
			add(":" + strconv.FormatUint(uint64(first+which%many), 10))
		}
	}
	return keys, string(sum[4:])
}

// OwedEvents lists the deliveries whose events are owed.
func (k Keys) OwedEvents() string { return k.prefix + ":events" }

// Operation is a bulk operation.
func (k Keys) Operation(id string) string { return k.prefix + ":op:" + id }

// Operations lists all bulk operations.
func (k Keys) Operations() string { return k.prefix + ":ops" }

// OpenOperations lists the bulk operations that are not final.
func (k Keys) OpenOperations() string { return k.prefix + ":ops:open" }
