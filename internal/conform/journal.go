package conform

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"backstop/internal/model"
)

// keeper is who works on a journal, by the lease in one queue of its sink.
type keeper struct {
	token string
	until model.Span
}

// Journal is an object of the journal that changed, by its name below the journal's folder: what it was and what it is, nil where there is none.
func (c *Checker) Journal(at time.Time, name string, was, now []byte) {
	c.enter(func() { c.object(name, was, now, at) })
}

// object has the lines of an object come and go.
func (c *Checker) object(name string, was, now []byte, at time.Time) {
	kind, rest, _ := strings.Cut(name, "/")
	sink, group, _ := strings.Cut(strings.TrimSuffix(rest, ".ndjson"), "/")
	switch {
	case kind == "state": // that a letter is parked or held
		c.counts["beside"]++
		return
	case kind != "open" && kind != "spill" || group == "":
		c.stray("%q is no name of a journal", name)
		return
	}
	before, after := linesOf(was), linesOf(now)
	for line := range max(len(before), len(after)) {
		from, to := textAt(before, line), textAt(after, line)
		if (from == "") == (to == "") {
			continue
		}
		_, p, ok := c.item(sink, from+to)
		if !ok {
			continue
		}
		o := model.Object{Content: p.content, Address: group + ":" + strconv.Itoa(line), Spilled: kind == "spill", There: to != ""}
		c.addresses[sink+" "+o.Address] = p
		action, text := "keep", "the journal lets it go"
		switch {
		case o.There && o.Spilled:
			action, text = "spill", "the journal has it, for the queue did not take it"
		case o.There:
			action, text = "push", "the journal has it"
		case o.Spilled:
			action, text = "restore", "the journal has it no more for the queue"
		}
		c.does(p.i, action, text, "", answered, at, func(f *model.Followed) string { f.Object(at.UnixMilli(), o); return "" })
	}
}

func linesOf(body []byte) []string {
	if len(body) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
}

// textAt is a line that has a letter; empty: it has none.
func textAt(lines []string, n int) string {
	if n >= len(lines) || lines[n] == "null" {
		return ""
	}
	return lines[n]
}

// keeper is a call by which somebody begins to work on a journal, goes on, or ends.
func (c *Checker) keeper(k call) {
	c.counts["keep"]++
	was, token, ttl := c.keepers[k.queue()], k.arg(1), k.number(2)
	mine := was.token == "" || was.token == token
	switch {
	case ttl == 0 && mine:
		delete(c.keepers, k.queue())
	case ttl == 0:
	case !k.known():
		if mine || was.until.From <= k.at().To {
			c.keepers[k.queue()] = keeper{} // it may be either's
		}
	case numberOf(listOf(k.reply)[0]) == 1:
		if !mine && was.until.From > k.at().To {
			c.stray("%s has the journal of %s, and %s begins to work on it", was.token, k.queue(), token)
		}
		c.keepers[k.queue()] = keeper{token, k.at().After(ttl)}
	case was.token == token && was.until.From > k.at().To:
		c.stray("%s has the journal of %s, and is told that it has not", token, k.queue())
	}
}

// works holds against the lease what was answered to somebody who works on a journal.
func (c *Checker) works(k call, told bool) {
	was := c.keepers[k.queue()]
	switch {
	case was.token == "":
	case told && was.token != k.arg(1):
		c.stray("%s by %s is carried out, and %s has the journal of %s", k.script, k.arg(1), was.token, k.queue())
	case told && was.until.To <= k.at().From, !told && was.token == k.arg(1) && was.until.From > k.at().To:
		c.stray("%s by %s is carried out: %v, and its lease ends %d ms later", k.script, k.arg(1), told, was.until.To-k.at().From)
	}
}

// addressed returns what an address is of.
func (c *Checker) addressed(k call, address string) (place, bool) {
	p, ok := c.addresses[k.sink()+" "+address]
	if !ok {
		c.stray("%s: nothing has the address %q", k.script, address)
	}
	return p, ok
}

func (c *Checker) noteJournal(k call) {
	for _, member := range k.args[1:] {
		if k.arg(1) == "ended" {
			if p, ok := c.addressed(k, member); ok {
				c.step(k, p.i, "restore", "its address is noted as over", "", func(f *model.Followed) string {
					f.NoteEnded(k.at(), p.content, member, k.known())
					return ""
				})
			}
		} else if p, ok := c.letters[k.sink()+" "+member]; ok { // else it is a letter's state, or of a push without an answer
			c.step(k, p.i, "lack", "the queue notes that the journal lacks it", "", func(f *model.Followed) string {
				f.NoteLack(k.at(), p.content, member, k.known())
				return ""
			})
		}
	}
}

func (c *Checker) journaled(k call) {
	done := numberOf(k.reply) == 1
	if k.known() {
		if c.works(k, done); !done {
			return
		}
	}
	n := int(k.number(2))
	for _, address := range k.args[3 : 3+n] {
		if p, ok := c.addressed(k, address); ok {
			c.step(k, p.i, "keep", "its address is forgotten", "", func(f *model.Followed) string { return f.Forget(k.at(), p.content, address, k.known()) })
		}
	}
	for _, id := range k.args[3+n : 3+n+int(k.number(3))] {
		if p, ok := c.letters[k.sink()+" "+id]; ok { // else it is a letter's state, or of a push without an answer
			c.step(k, p.i, "keep", "the queue notes that the journal has it", "", func(f *model.Followed) string { return f.Written(k.at(), p.content, id, k.known()) })
		}
	}
}

// back is a call by which letters come back from the journal.
func (c *Checker) back(k call) {
	const before, each = 5, 11
	answer := listOf(k.reply)
	if k.known() {
		done := len(answer) != 1
		if c.works(k, done); !done {
			return
		}
		if len(answer) != 3*(len(k.args)-before)/each {
			c.stray("return: %v", k.reply)
			return
		}
	}
	for n, a := range slices.Collect(slices.Chunk(k.args[before:], each)) {
		it, p, ok := c.item(k.sink(), a[5])
		if !ok {
			continue
		}
		c.belongs(k, p.i)
		back := model.Return{Push: pushOf(it, p, a[4], a[6]), Waits: a[9] != ""}
		status, id, text := "", "", "comes back"
		if k.known() {
			status, id = textOf(answer[3*n]), textOf(answer[3*n+1])
			if text += ": " + status; id != "" {
				c.letters[k.sink()+" "+id] = p
			}
		}
		c.firsts[k.sink()+" "+firstOf(a[0])] = p.i
		c.step(k, p.i, "restore", text, "", func(f *model.Followed) string { return f.Return(k.at(), back, status, id) })
	}
}
