package model

import "strings"

// Action is one of the things that happen, and the words of its steps.
type Action struct {
	Name, Text string
	Steps      []string // what they begin with
}

// Actions are all of them: every step of the model belongs to one.
var Actions = []Action{
	{"ask", "a caller asks for a delivery, now or for later", []string{"a caller asks for it"}},
	{"begin", "a sender takes the record, or is told what it says; the letter that it speaks of, and notes of cancellations, are looked for", []string{"begins the record", "looks "}},
	{"accept", "the message is put into the queue of requests, then its record says so", []string{"puts the message", "tells the record that it is accepted"}},
	{"gate", "the gate lets an attempt go, refuses it, or grants the one slot of a probe", []string{"asks the gate", "is refused by the gate", "takes the slot"}},
	{"attempt", "the receiver takes it, refuses it, asks to wait, or does not answer (and has it, or not)", []string{"begins to send", "sends", "has no time left"}},
	{"expire", "the message's time ends; whoever is about to send it sees so", []string{"its time is over", "sees that its time"}},
	{"push", "the queue stores the dead letter, is full, or loses the reply; beside it the journal writes it", []string{"pushes it", "writes it to the journal"}},
	{"spill", "the journal keeps what the queue did not take, or what it has is taken back", []string{"spills it", "takes back what"}},
	{"lack", "the queue notes what the journal did not take", []string{"notes in the queue that the journal lacks it"}},
	{"finish", "the record is told the fate; a letter that is too many is removed", []string{"tells the record: delivered", "tells the record: dead_lettered", "tells the record: expired", "removes the letter of a delivery"}},
	{"hand back", "the record is forgotten, left, or waits for its message again", []string{"hands the record back"}},
	{"answer", "the caller is told, or does not hear of it; a message that is safe leaves the queue", []string{"tells delivered", "tells dead-lettered", "tells expired", "tells accepted", "tells canceled", "tells discarded"}},
	{"redeliver", "the queue hands a message out, once more perhaps", []string{"the queue hands"}},
	{"die", "a process ends anywhere", []string{"dies"}},
	{"claim", "a replay leases a letter that is due, or that an operator named, and notes that it begins after a death", []string{"a replay begins", "an operator has it replayed", "claims the letter", "finds nothing", "notes that its replay"}},
	{"tell", "a replay, a discard or the journal tells the record what became of the letter", []string{"tells the record: told_"}},
	{"settle", "the letter leaves the queue, stays, waits for an operator, or is marked as expired; or the lease is given back", []string{"settles the letter", "gives the lease back"}},
	{"cancel", "the record is marked, the letters are taken, the record is marked once more, the letters are removed; or all of it is undone", []string{"a caller cancels it", "marks the record", "takes the letter, and", "has no letter to remove", "begins to remove", "removes the letter", "takes the note back", "takes the mark back"}},
	{"discard", "an operator gives a letter up", []string{"an operator gives it up", "is refused: there is no letter", "takes the letter to give"}},
	{"unpark", "an operator has a letter that waits sent with the others", []string{"an operator unparks it"}},
	{"strike", "a letter that ends by order leaves the journal", []string{"takes the letter out of the journal"}},
	{"keep", "a tick of the journal takes its lease, writes what is missing there, and deletes what is over", []string{"the journal's tick", "takes the journal's lease", "finds another", "has nothing to do", "reads a letter", "writes the letter", "notes that the journal has", "reads an address", "deletes the object", "forgets the address"}},
	{"restore", "a letter that the journal has comes back into the queue, unless it is over", []string{"reads an object", "asks the record", "brings the letter back", "notes that its address", "removes it from what"}},
	{"lease", "a lease, a slot or a hold ends by itself", []string{"the record's lease", "the letter's lease", "the journal's lease", "the probe's slot", "the receiver's hold"}},
	{"hold", "the receiver is left alone", []string{"the receiver is left alone"}},
	{"lose", "others remove a letter, a record is lost, or everything is", []string{"others remove", "its record is lost", "the queue and the records"}},
}

// actionOf returns the action that a step belongs to; nil where there is none.
func actionOf(do string) *Action {
	var found *Action
	longest := 0
	for i, a := range Actions {
		for _, begin := range a.Steps {
			if strings.HasPrefix(do, begin) && len(begin) > longest {
				found, longest = &Actions[i], len(begin)
			}
		}
	}
	return found
}

// Of scripts that are no action, what they are.
const (
	// Read: it changes nothing.
	Read = "a read"
	// Part: it is put into other scripts.
	Part = "part of other scripts"
	// Beside: it changes what no promise rests on: counters, notes of operators, rates, progress of bulk
	// operations, whose members are claimed and settled as any.
	Beside = "beside the protocol"
	// Place: it says which queue of a sink has a letter. In the model a sink has one.
	Place = "the letters' place"
)

// Scripts says for every Lua script of the library, by its path below lib/, which action stands for it, or
// why none does.
var Scripts = map[string]string{
	"delivery/get.lua":     Read,
	"delivery/move.lua":    "begin, accept, finish, hand back, tell, cancel",
	"delivery/pending.lua": Beside,
	"delivery/record.lua":  Part,

	"dlq/anew.lua":          Part,
	"dlq/begin.lua":         "claim",
	"dlq/canceled.lua":      "begin",
	"dlq/claim.lua":         "claim",
	"dlq/clock.lua":         Part,
	"dlq/count.lua":         Part,
	"dlq/death.lua":         "claim",
	"dlq/delivery.lua":      "cancel",
	"dlq/discard.lua":       "finish, discard",
	"dlq/entry.lua":         Part,
	"dlq/find.lua":          "push",
	"dlq/gate.lua":          Beside,
	"dlq/group_note.lua":    Beside,
	"dlq/groups.lua":        Read,
	"dlq/held.lua":          Read,
	"dlq/history.lua":       Read,
	"dlq/journal_lease.lua": "keep",
	"dlq/journal_note.lua":  "lack, restore",
	"dlq/journal_save.lua":  Beside,
	"dlq/journaled.lua":     "keep",
	"dlq/lease.lua":         "claim, cancel, discard",
	"dlq/mend.lua":          Beside,
	"dlq/native.lua":        Part,
	"dlq/new_groups.lua":    Beside,
	"dlq/newest.lua":        Read,
	"dlq/noted.lua":         "push, restore",
	"dlq/overdue.lua":       "claim",
	"dlq/pause.lua":         Beside,
	"dlq/peek.lua":          Read,
	"dlq/prelude.lua":       Part,
	"dlq/present.lua":       Read,
	"dlq/present_after.lua": Read,
	"dlq/prune.lua":         Beside,
	"dlq/push.lua":          "push",
	"dlq/release.lua":       "settle",
	"dlq/retire.lua":        "lose",
	"dlq/return.lua":        "restore",
	"dlq/room.lua":          "lose",
	"dlq/settle.lua":        "settle, cancel, discard",
	"dlq/shards.lua":        Place,
	"dlq/stats.lua":         Read,
	"dlq/store.lua":         "push, restore",
	"dlq/succession.lua":    Part,
	"dlq/supersede.lua":     Beside,
	"dlq/superseded.lua":    Beside,
	"dlq/take.lua":          "claim, cancel, discard",
	"dlq/trim.lua":          "lose",
	"dlq/unjournaled.lua":   "keep",
	"dlq/unpark.lua":        "unpark",
	"dlq/works.lua":         "keep, restore",

	"flow/hold.lua": "gate, lease",
	"flow/look.lua": Read,
	"flow/rate.lua": Beside,
	"flow/swap.lua": "gate, hold, attempt",

	"replay/operation_cancel.lua": Beside,
	"replay/operation_create.lua": Beside,
	"replay/operation_resume.lua": Beside,
	"replay/operation_save.lua":   Beside,
	"replay/operation_take.lua":   Beside,
}
