package conform

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"backstop/internal/model"
)

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
		claim.Quiet = k.quiet()
		text := strings.TrimSuffix(path.Base(k.script), ".lua")
		if claim.Canceled {
			text += ", noted as canceled"
		}
		c.step(k, places[n].i, "claim", text, claim.Token, func(f *model.Followed) string { return f.Claim(k.at(), claim) })
	}
}

// quiet reports whether nothing is sent under the leases of a claim.
func (k call) quiet() bool {
	return k.script == "dlq/overdue.lua" || k.script == "dlq/take.lua" && k.arg(5) == "1"
}

// borrowed is a claim without an answer: any letter of the sink that is free, and named where it is by id, may be leased by it.
func (c *Checker) borrowed(k call) {
	for key, p := range c.letters {
		sink, id, _ := strings.Cut(key, " ")
		switch {
		case sink != k.sink() || shardOf(id) != k.shard() || !c.followed[p.i].Free(k.at(), p.content, id):
		case k.script == "dlq/take.lua" && !slices.Contains(k.args[5:], id):
		default:
			c.step(k, p.i, "claim", "perhaps", k.arg(1), func(f *model.Followed) string {
				f.Borrow(k.at(), p.content, id, k.arg(1), k.number(2), k.quiet())
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

func (c *Checker) unpark(k call) {
	if p, ok := c.letter(k, k.arg(1)); ok {
		told := numberOf(k.reply)
		c.step(k, p.i, "unpark", fmt.Sprintf("makes the letter due: %d", told), "", func(f *model.Followed) string {
			return f.Unpark(k.at(), p.content, k.arg(1), k.known(), told)
		})
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
