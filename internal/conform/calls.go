package conform

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	case command == "set" && strings.HasSuffix(k.Args[1], ":ticked"), command == "xrange", command == "script", slices.Contains(harmless, command):
		c.counts["beside"]++
	default:
		c.stray("%.200q is a command of which the model knows nothing", k.Args)
	}
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

// beside are the scripts beside the protocol that change nothing that is followed; the model says the same of others, which make or unpark letters.
var beside = strings.Fields("delivery/pending.lua dlq/gate.lua dlq/group_note.lua dlq/journal_save.lua dlq/mend.lua dlq/new_groups.lua dlq/pause.lua " +
	"dlq/prune.lua dlq/shards.lua dlq/unjournaled.lua flow/hold.lua flow/rate.lua")

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
	"dlq/return.lua": (*Checker).back,
}

// step makes the step of a call.
func (c *Checker) step(k call, i int, action, text, token string, do func(f *model.Followed) string) {
	c.does(i, action, text, token, k.how, k.From, do)
}

var moves = map[string]string{
	"send": "begin", "queued": "begin", "accept": "begin", "accepted": "accept", "delivered": "finish", "dead_lettered": "finish", "expired": "finish",
	"forget": "hand back", "requeue": "hand back", "leave": "hand back", "told_delivered": "tell", "told_dead_lettered": "tell", "told_expired": "tell",
	"told_discarded": "tell", "cancel": "cancel", "confirm": "cancel", "uncancel": "cancel",
}

// record is what is read of a record's text.
type record struct {
	Status      string `json:"status"`
	Former      string `json:"former_status"`
	Token       string `json:"token"`
	Fingerprint string `json:"fingerprint"`
	ItemID      string `json:"item_id"`
	Unanswered  int    `json:"unanswered"`
	Until       int64  `json:"until_ms"`
}

func read(text string) (model.Text, error) {
	var r record
	if text == "" {
		return model.Text{}, nil
	}
	err := json.Unmarshal([]byte(text), &r)
	return model.Text(r), err
}

func (c *Checker) move(k call) {
	i, ok := c.o.Record(k.keys[0])
	if !ok {
		c.stray("%s is the record of no delivery", k.keys[0])
		return
	}
	if numberOf(k.reply) < 0 { // it needs other buckets, and did nothing
		c.counts["beside"]++
		return
	}
	fresh, err := read(k.arg(8))
	m := model.Move{
		Event: k.arg(5), Token: k.arg(6), Fingerprint: k.arg(7), New: fresh.Fingerprint, Former: fresh.Former, Unanswered: fresh.Unanswered, Lease: -1,
		Gone: k.arg(11) == "1", GoneID: k.arg(12),
	}
	if k.arg(10) != "" {
		m.Lease = k.number(10)
	}
	if m.Event == "cancel" || m.Event == "confirm" {
		c.tokens[m.Token] = i
	}
	var said *model.Moved
	text := m.Event
	if answer := listOf(k.reply); k.known() {
		if len(answer) != 3 || err != nil {
			c.stray("move %s: %v, %v", m.Event, k.reply, err)
			return
		}
		said = &model.Moved{Verdict: textOf(answer[0])}
		var err1, err2 error
		said.Found, err1 = read(textOf(answer[1]))
		said.Now, err2 = read(textOf(answer[2]))
		if err1 != nil || err2 != nil {
			c.stray("move %s: %v, %v", m.Event, err1, err2)
			return
		}
		text += fmt.Sprintf(" finds %s: %s", or(said.Found.Status, "none"), said.Verdict)
	}
	c.step(k, i, moves[m.Event], text, m.Token, func(f *model.Followed) string { return f.Move(k.at(), m, said) })
}

func or(text, none string) string {
	if text == "" {
		return none
	}
	return text
}

func (c *Checker) get(k call) {
	i, ok := c.o.Record(k.keys[0])
	t, err := read(textOf(k.reply))
	if numberOf(k.reply) < 0 {
		return // it needs other buckets
	}
	if !ok || err != nil || !k.known() {
		return
	}
	c.step(k, i, "read", "its record: "+or(t.Status, "none"), "", func(f *model.Followed) string { return f.Read(k.at(), t) })
}

// item is what is read of a dead letter.
type item struct {
	ID         string `json:"delivery_id"`
	Reason     string `json:"reason"`
	Unanswered int    `json:"unanswered"`
	Message    struct {
		Body string `json:"body"`
	} `json:"message"`
}

// unanswered is how many attempts without an answer it had before it was stored.
func (it item) unanswered() int {
	if it.Reason == "ambiguous" {
		return max(it.Unanswered, 1)
	}
	return it.Unanswered
}

func (c *Checker) item(sink, text string) (it item, p place, ok bool) {
	if err := json.Unmarshal([]byte(text), &it); err != nil {
		c.stray("a dead letter of %s: %v", sink, err)
		return it, p, false
	}
	p.i, p.content, ok = c.o.Delivery(sink, it.ID, it.Message.Body)
	if !ok {
		c.stray("a dead letter of %s is of no delivery: %.100q", sink, it.ID)
	}
	return it, p, ok
}

// firstOf is the push key of a delivery's first generation, of one of any.
func firstOf(key string) string { return key[strings.IndexByte(key, ',')+1:] }

// pushOf is a letter that is stored: when it is due, as the scripts write it, and its address in the journal.
func pushOf(it item, p place, when, address string) model.Push {
	due, expires, _ := strings.Cut(when, " ")
	return model.Push{
		Content: p.content, Held: due == "never", Expired: due == "expired", Unanswered: it.unanswered(), Due: numberOf(due), Expires: numberOf(expires), Address: address,
	}
}

// belongs holds the queue that a letter is stored in against where its delivery's are.
func (c *Checker) belongs(k call, i int) {
	if !c.home(k, i) {
		c.stray("%s stores a letter of %s in %s, and its delivery's are elsewhere", k.script, c.o.Name(i), k.queue())
	}
}

func (c *Checker) push(k call) {
	const before, each = 5, 7
	answer := listOf(k.reply)
	if n := (len(k.args) - before) / each; k.known() && len(answer) != 1+3*n {
		c.stray("push: %v", k.reply)
		return
	}
	if k.known() && numberOf(answer[0]) != 0 {
		c.stray("push removed %d letters of others", numberOf(answer[0]))
	}
	for n := 0; before+each*n < len(k.args); n++ {
		a := k.args[before+each*n:]
		it, p, ok := c.item(k.sink(), a[5])
		if !ok {
			continue
		}
		c.belongs(k, p.i)
		push := pushOf(it, p, a[4], a[6])
		c.addresses[k.sink()+" "+push.Address] = p
		status, id, text := "", "", it.Reason
		if k.known() {
			status, id = textOf(answer[1+3*n]), textOf(answer[2+3*n])
			if text += ": " + status; id != "" {
				c.letters[k.sink()+" "+id] = p
			}
		}
		c.firsts[k.sink()+" "+firstOf(a[0])] = p.i
		c.step(k, p.i, "push", text, "", func(f *model.Followed) string { return f.Push(k.at(), push, status, id) })
	}
}

// state is what the scripts keep of a letter.
type state struct {
	Unanswered int `json:"unanswered"`
	Deaths     int `json:"deaths"`
}

// rows are the letters that a call leased.
func (c *Checker) rows(k call, rows, flags []any) (all []model.Claim, places []place) {
	for n, r := range rows {
		row := listOf(r)
		if len(row) != 5 {
			c.stray("%s: %v", k.script, row)
			return nil, nil
		}
		id, fields := textOf(row[0]), listOf(row[4])
		text := ""
		for f := 0; f+1 < len(fields); f += 2 {
			if fields[f] == "item" {
				text = textOf(fields[f+1])
			}
		}
		it, p, ok := c.item(k.sink(), text)
		if !ok {
			continue
		}
		var s state
		if t := textOf(row[3]); t != "" {
			if err := json.Unmarshal([]byte(t), &s); err != nil {
				c.stray("%s: the state of %s: %v", k.script, id, err)
			}
		}
		c.letters[k.sink()+" "+id] = p
		all = append(all, model.Claim{
			Content: p.content, ID: id, Token: k.arg(1), Left: numberOf(row[1]), Unanswered: it.unanswered() > 0 || s.Unanswered > 0, Died: s.Deaths > 0,
			Canceled: n < len(flags) && numberOf(flags[n]) == 1,
		})
		places = append(places, p)
	}
	return all, places
}

func (c *Checker) claim(k call) {
	answer := listOf(k.reply)
	if !k.known() {
		c.borrowed(k)
		return
	}
	if len(answer) != 3 {
		c.stray("%s: %v", k.script, k.reply)
		return
	}
	claims, places := c.rows(k, listOf(answer[1]), listOf(answer[2]))
	for n, claim := range claims {
		claim.Due, claim.Overdue = k.script == "dlq/claim.lua", k.script == "dlq/overdue.lua"
		claim.Quiet = claim.Overdue || k.script == "dlq/take.lua" && k.arg(5) == "1"
		text := strings.TrimSuffix(path.Base(k.script), ".lua")
		if claim.Canceled {
			text += ", noted as canceled"
		}
		c.step(k, places[n].i, "claim", text, claim.Token, func(f *model.Followed) string { return f.Claim(k.at(), claim) })
	}
}

// borrowed is a claim without an answer: any letter of the sink that is free may be leased by it.
func (c *Checker) borrowed(k call) {
	for key, p := range c.letters {
		if sink, id, _ := strings.Cut(key, " "); sink == k.sink() && shardOf(id) == k.shard() && c.followed[p.i].Free(k.at(), p.content, id) {
			c.step(k, p.i, "claim", "perhaps", k.arg(1), func(f *model.Followed) string {
				f.Borrow(k.at(), p.content, id, k.arg(1), k.number(2), k.script != "dlq/claim.lua")
				return ""
			})
		}
	}
}

func (c *Checker) take(k call) {
	first := k.sink() + " " + k.arg(4)
	i, ok := c.tokens[k.arg(1)]
	if !ok {
		c.stray("a cancellation takes letters, and has marked no record")
		return
	}
	c.firsts[first] = i
	if !c.home(k, i) {
		if answer := listOf(k.reply); k.known() && (numberOf(answer[0]) != 0 || len(listOf(answer[1])) > 0) {
			c.stray("dlq/delivery.lua finds letters of %s in %s: %v", c.o.Name(i), k.queue(), k.reply)
		}
		c.counts["beside"]++
		return
	}
	t := model.Take{Token: k.arg(1), TTL: k.number(2), Note: k.number(5)}
	text := "takes the letters"
	if answer := listOf(k.reply); k.known() {
		switch code := numberOf(answer[0]); code {
		case -1:
			t.Leased, text = true, "is refused: a replay has a letter"
		case 0:
			t.Rows, _ = c.rows(k, listOf(answer[1]), nil)
			for n := range t.Rows {
				t.Rows[n].Quiet = true
			}
			text = fmt.Sprintf("takes %d letters", len(t.Rows))
		default:
			c.stray("dlq/delivery.lua: %v", k.reply)
			return
		}
	}
	if t.Note > 0 && !t.Leased {
		text += ", and notes it"
	}
	c.step(k, i, "cancel", text, t.Token, func(f *model.Followed) string { return f.Take(k.at(), t, k.known()) })
}

func (c *Checker) canceled(k call) {
	i, ok := c.firsts[k.sink()+" "+k.arg(1)]
	if !k.known() {
		return
	}
	told := numberOf(k.reply) == 1
	if !ok {
		if told {
			c.stray("a delivery of %s is noted as canceled that nobody canceled", k.sink())
		}
		return
	}
	if !c.home(k, i) {
		c.counts["beside"]++
		return
	}
	c.step(k, i, "begin", fmt.Sprintf("noted as canceled: %v", told), "", func(f *model.Followed) string { return f.Noted(k.at(), told) })
}

// notes has a command be one of the queue whose notes it is about.
func (k call) notes() call {
	k.keys = []string{strings.TrimSuffix(strings.TrimPrefix(k.Args[1], "{"), "}:canceled")}
	return k
}

// noteCopied is a note of a cancellation that another queue of the sink had.
func (c *Checker) noteCopied(k call) {
	k = k.notes()
	for n := 3; n+1 < len(k.Args); n += 2 {
		until := numberOf(k.Args[n])
		if i, ok := c.firsts[k.sink()+" "+k.Args[n+1]]; ok && c.home(k, i) {
			c.step(k, i, "cancel", "a note of it is copied", "", func(f *model.Followed) string { f.NoteCopied(k.at(), until, k.known()); return "" })
		}
	}
}

func (c *Checker) unnote(k call) {
	k = k.notes()
	i, ok := c.firsts[k.sink()+" "+k.Args[2]]
	if !ok || !c.home(k, i) {
		c.counts["beside"]++
		return
	}
	c.step(k, i, "cancel", "takes the note back", "", func(f *model.Followed) string { return f.Unnote(k.at(), k.known(), numberOf(k.reply) == 1) })
}

func (c *Checker) looked(k call) {
	k.keys = k.Args[1:2]
	if p, ok := c.letters[k.sink()+" "+k.Args[2]]; ok {
		there := len(listOf(k.reply)) > 0
		c.step(k, p.i, "read", fmt.Sprintf("its letter is there: %v", there), "", func(f *model.Followed) string {
			return f.Looked(k.at(), p.content, k.Args[2], there)
		})
	}
}

// letter returns what a native id is of.
func (c *Checker) letter(k call, id string) (place, bool) {
	p, ok := c.letters[k.sink()+" "+id]
	if !ok {
		c.stray("%s: letter %s is none that was stored", k.script, id)
	}
	return p, ok
}

func (c *Checker) begin(k call) {
	if p, ok := c.letter(k, k.arg(1)); ok {
		told := numberOf(k.reply) == 1
		c.step(k, p.i, "claim", fmt.Sprintf("its replay begins: %v", told), k.arg(2), func(f *model.Followed) string {
			return f.Begin(k.at(), p.content, k.arg(1), k.arg(2), k.known(), told)
		})
	}
}

func (c *Checker) settle(k call) {
	const before, each = 1, 10
	answer := listOf(k.reply)
	if n := (len(k.args) - before) / each; k.known() && len(answer) != n+1 {
		c.stray("settle: %v", k.reply)
		return
	}
	for n := 0; before+each*n < len(k.args); n++ {
		a := k.args[before+each*n:]
		p, ok := c.letter(k, a[0])
		if !ok {
			continue
		}
		s := model.Settle{Content: p.content, ID: a[0], Token: a[1], Action: a[2], Delay: numberOf(a[3]), Unanswered: int(numberOf(a[6]))}
		applied, text := false, s.Action
		if k.known() {
			if applied = numberOf(answer[n]) == 1; !applied {
				text += ", fenced"
			}
		}
		c.step(k, p.i, "settle", text, s.Token, func(f *model.Followed) string { return f.Settle(k.at(), s, k.known(), applied) })
	}
}

func (c *Checker) release(k call) {
	fewest, most := 0, 0
	for n := 0; n+1 < len(k.args); n += 2 {
		id, token := k.args[n], k.args[n+1]
		p, ok := c.letter(k, id)
		if !ok {
			continue
		}
		c.step(k, p.i, "settle", "gives the lease back", token, func(f *model.Followed) string {
			low, high := f.Release(k.at(), p.content, id, token, k.known())
			fewest, most = fewest+low, most+high
			return ""
		})
	}
	if n := int(numberOf(k.reply)); k.known() && (n < fewest || n > most) && len(c.left) == 0 {
		c.stray("%d leases are given back of %q, the model says %d to %d", n, k.args, fewest, most)
	}
}

func (c *Checker) discard(k call) {
	p, ok := c.letters[k.sink()+" "+k.arg(1)]
	if !ok {
		if numberOf(k.reply) == 1 {
			c.stray("letter %s is removed, and none that was stored", k.arg(1))
		}
		return
	}
	told := numberOf(k.reply)
	c.step(k, p.i, "finish", fmt.Sprintf("removes the letter: %d", told), "", func(f *model.Followed) string {
		return f.Discard(k.at(), p.content, k.arg(1), k.known(), told)
	})
}

// swap is the one step by which processes change what they know together of a receiver: from what they believe, or not at all.
func (c *Checker) swap(k call) {
	c.counts["gate"]++
	name, was, next := k.keys[0]+" "+k.arg(1), k.arg(2), k.arg(3)
	may := c.gates[name]
	if len(may) == 0 {
		may = []string{""}
	}
	if !k.known() {
		if slices.Contains(may, was) && !slices.Contains(may, next) {
			may = append(may, next)
		}
		c.gates[name] = may
		return
	}
	answer := listOf(k.reply)
	if len(answer) != 3 {
		c.stray("flow/swap.lua: %v", k.reply)
		return
	}
	what, now, current := numberOf(answer[0]), numberOf(answer[1]), textOf(answer[2])
	off := math.Abs(float64(now-k.number(4))) > float64(k.number(5))
	fits := func(have string) bool {
		switch what {
		case 0:
			return current == have && have != next && (have != was || off)
		case 1:
			return current == next && (have == next || have == was && !off)
		}
		return have == "" && next != "" && what == 2
	}
	if !slices.ContainsFunc(may, fits) {
		c.stray("the gate of %q goes from %q to %q, believing %q: answered with %d and %q", name, may, next, was, what, current)
	}
	if what != 2 {
		c.gates[name] = []string{current}
	}
}
