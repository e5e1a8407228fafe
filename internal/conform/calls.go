package conform

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	"encoding/hex"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"backstop/internal/faultproxy"
	"backstop/internal/model"
)

// call is a call of a script.
type call struct {
	faultproxy.Call
	script     string
	keys, args []string
	reply      any // nil where none came
	how        how
}

func (k call) at() model.Span { return span(k.From, k.To) }

// known reports whether an answer came, be it lost.
func (k call) known() bool { return k.how != unknown }

// arg is an argument from 1, as the scripts count; of those that are not there it is empty.
func (k call) arg(n int) string {
	if n > len(k.args) {
		return ""
	}
	return k.args[n-1]
}

func (k call) number(n int) int64 { return numberOf(k.arg(n)) }

// queue is the one that a call is of: a sink's, or one of its shards.
func (k call) queue() string {
	if len(k.keys) == 0 {
		return ""
	}
	_, queue, _ := strings.Cut(k.keys[0], ":dlq:")
	return queue
}

// sink is that of the queue.
func (k call) sink() string {
	sink, _, _ := strings.Cut(k.queue(), "~")
	return sink
}

// shard is that of the queue.
func (k call) shard() int {
	_, shard, _ := strings.Cut(k.queue(), "~")
	return int(numberOf(shard))
}

// shardOf is the shard that a native id tells.
func shardOf(id string) int {
	const each = 1_000_000_000_000
	_, seq, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return 0
	}
	return int(n / each) //nolint:gosec // at most 10^8
}

// home reports whether letters of a delivery are pushed to the queue of a call.
func (c *Checker) home(k call, i int) bool {
	return c.o.Shard == nil && k.shard() == 0 || c.o.Shard != nil && c.o.Shard(i) == k.shard()
}

// numberOf reads what the protocol has of a number; 0: it is none.
func numberOf(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		x, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(x) || math.Abs(x) > 1<<53 {
			return 0
		}
		return int64(x)
	}
	return 0
}

func textOf(v any) string {
	s, _ := v.(string)
	return s
}

func listOf(v any) []any {
	l, _ := v.([]any)
	return l
}

// harmless commands change nothing that is followed.
var harmless = strings.Fields("hello client ping auth select command cluster info exists smembers scard xlen hget hmget hgetall hlen hkeys get mget " +
	"zscore zmscore zrange zrangebyscore zrangebylex zcard xrevrange sadd sscan smismember srandmember time dbsize ttl pttl type")

// call checks one command.
func (c *Checker) call(k faultproxy.Call) {
	if len(k.Args) == 0 {
		return
	}
	h := answered
	switch {
	case k.Reply == nil:
		h = unknown
	case k.Lost:
		h = lost
	}
	var reply any
	if k.Reply != nil {
		var err error
		if reply, err = faultproxy.Value(k.Reply); err != nil {
			c.stray("%s: %v: %.100q", k.Args[0], err, k.Reply)
			return
		}
	}
	switch command := strings.ToLower(k.Args[0]); {
	case command == "eval" || command == "evalsha":
		c.script(k, reply, h)
	case isError(reply): // it did nothing, and told nothing: a server that loads, perhaps
		c.counts["beside"]++
	case command == "script" && len(k.Args) == 3 && strings.EqualFold(k.Args[1], "load"):
		c.learn(k.Args[2])
	case command == "zadd" && strings.HasSuffix(k.Args[1], "}:canceled") && len(k.Args) > 3 && strings.EqualFold(k.Args[2], "gt"):
		c.noteCopied(call{Call: k, reply: reply, how: h})
	case command == "zrem" && strings.HasSuffix(k.Args[1], "}:canceled") && len(k.Args) == 3:
		c.unnote(call{Call: k, reply: reply, how: h})
	case command == "xrange" && len(k.Args) == 4 && k.Args[2] == k.Args[3] && h != unknown:
		c.looked(call{Call: k, reply: reply, how: h})
	case (command == "zadd" || command == "zrem") && isOperations(k.Args[1]), command == "pexpire" && strings.Contains(k.Args[1], "}:op:"):
		c.counts["beside"]++
	case command == "set" && strings.HasSuffix(k.Args[1], ":ticked"), command == "xrange", command == "script", slices.Contains(harmless, command):
		c.counts["beside"]++
	default:
		c.stray("%.200q is a command of which the model knows nothing", k.Args)
	}
}

// isOperations reports whether a key lists bulk operations.
func isOperations(key string) bool {
	return strings.HasSuffix(key, ":ops") || strings.HasSuffix(key, ":ops:open")
}

func isError(reply any) bool {
	_, ok := reply.(faultproxy.Error)
	return ok
}

var header = regexp.MustCompile(`(?m)^-- ([a-z_]+)\.lua:`)

// joined are scripts that are put into others, beside those of which the model says that they are parts.
var joined = strings.Fields("dlq/find dlq/noted dlq/store dlq/death dlq/lease dlq/trim dlq/works")

// named are the scripts that are called, by their names.
var named = func() map[string]string {
	all := map[string]string{}
	for file, says := range model.Scripts {
		p := strings.TrimSuffix(file, ".lua")
		if says != model.Part && !slices.Contains(joined, p) {
			all[path.Base(p)] = file
		}
	}
	return all
}()

// ScriptName returns the hash by which Redis knows a source, and which script it is, by its path below lib/: each file that it is made of begins
// with its name. Empty: it is none.
func ScriptName(source string) (hash, name string) {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // Redis names scripts so
	for _, m := range header.FindAllStringSubmatch(source, -1) {
		if name = named[m[1]]; name != "" {
			break
		}
	}
	return hex.EncodeToString(sum[:]), name
}

// learn notes which script a source is.
func (c *Checker) learn(source string) string {
	hash, name := ScriptName(source)
	c.scripts[hash] = name
	return name
}

// beside are the scripts beside the protocol that change nothing that is followed; the model says the same of others, which make letters.
var beside = strings.Fields("delivery/pending.lua dlq/gate.lua dlq/group_note.lua dlq/journal_save.lua dlq/mend.lua dlq/new_groups.lua dlq/pause.lua " +
	"dlq/prune.lua dlq/shards.lua dlq/unjournaled.lua flow/hold.lua flow/rate.lua " +
	"replay/operation_cancel.lua replay/operation_create.lua replay/operation_resume.lua replay/operation_save.lua replay/operation_take.lua")

// script checks a call of a script.
func (c *Checker) script(k faultproxy.Call, reply any, h how) {
	if len(k.Args) < 3 {
		c.stray("%.100q names no script", k.Args)
		return
	}
	script := c.scripts[k.Args[1]]
	if strings.EqualFold(k.Args[0], "eval") {
		script = c.learn(k.Args[1])
	}
	if e, ok := reply.(faultproxy.Error); ok {
		if passing(e) {
			c.counts["beside"]++
			return
		}
		c.stray("%s is answered with %q", script, e)
		return
	}
	keys, err := strconv.Atoi(k.Args[2])
	if err != nil || keys < 0 || 3+keys > len(k.Args) {
		c.stray("%.100q has not so many keys", k.Args)
		return
	}
	cl := call{Call: k, script: script, keys: k.Args[3 : 3+keys], args: k.Args[3+keys:], reply: reply, how: h}
	switch {
	case followed[script] != nil:
		followed[script](c, cl)
	case script != "" && (model.Scripts[script] == model.Read || slices.Contains(beside, script)):
		c.counts["beside"]++
	case script == "":
		c.stray("the script %.80q is none of which the model knows: %.300q", k.Args[1], k.Args[2:])
	default:
		c.stray("%s (%s) is not followed", script, model.Scripts[script])
	}
}

// passing reports whether an error says that nothing was done.
func passing(e faultproxy.Error) bool {
	word, _, _ := strings.Cut(string(e), " ")
	return slices.Contains([]string{"NOSCRIPT", "LOADING", "OOM", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN"}, word)
}

// followed are the scripts whose calls are checked.
var followed = map[string]func(*Checker, call){
	"delivery/move.lua": (*Checker).move, "delivery/get.lua": (*Checker).get, "dlq/push.lua": (*Checker).push,
	"dlq/claim.lua": (*Checker).claim, "dlq/take.lua": (*Checker).claim, "dlq/overdue.lua": (*Checker).claim, "dlq/delivery.lua": (*Checker).take,
	"dlq/canceled.lua": (*Checker).canceled, "dlq/begin.lua": (*Checker).begin, "dlq/settle.lua": (*Checker).settle,
	"dlq/release.lua": (*Checker).release, "dlq/discard.lua": (*Checker).discard, "flow/swap.lua": (*Checker).swap,
	"dlq/journal_lease.lua": (*Checker).keeper, "dlq/journal_note.lua": (*Checker).noteJournal, "dlq/journaled.lua": (*Checker).journaled,
	"dlq/return.lua": (*Checker).back, "dlq/unpark.lua": (*Checker).unpark,
}

// step makes the step of a call.
func (c *Checker) step(k call, i int, action, text, token string, do func(f *model.Followed) string) {
	c.does(i, action, text, token, k.how, k.From, do)
}
