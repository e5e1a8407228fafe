package conform

import (
	"encoding/json"
	"fmt"

	"backstop/internal/model"
)

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
