package dlq

import "time"

// State says what will happen to a dead letter. A Reason says why it failed.
type State string

// The states.
const (
	StateUnreadable State = "unreadable" // its entry cannot be read; it can be discarded
	StateDelivered  State = "delivered"  // a replay delivered it, and it was kept
	StateReplaying  State = "replaying"  // a replay holds its lease
	StateExpired    State = "expired"    // its time is over: the schedule gives it up
	StateParked     State = "parked"     // replayed too often: an operator decides
	StateWaiting    State = "waiting"    // its reason, or how a replay failed, leaves it to an operator; or another supersedes it
	StateScheduled  State = "scheduled"  // the schedule replays it at its next_replay_at
	StateDue        State = "due"        // the schedule replays it at its next tick
)

// States lists every state in the order in which Item.State looks for them.
var States = []State{
	StateUnreadable, StateDelivered, StateReplaying, StateExpired, StateParked, StateWaiting, StateScheduled, StateDue,
}

// State returns what will happen to the item, as of now: the first state that holds. This
// is the only place with the rule, but for what the scripts know of an entry (idle in
// entry.lua).
func (it Item) State(now time.Time) State {
	switch {
	case it.DecodeError != "":
		return StateUnreadable
	case !it.DeliveredAt.IsZero():
		return StateDelivered
	case now.Before(it.LeasedUntil):
		return StateReplaying
	case it.Expired(now):
		return StateExpired
	case it.Parked:
		return StateParked
	case it.Held || it.SupersededBy != "" || !it.Reason.Due() && it.NextReplayAt.IsZero():
		return StateWaiting
	case it.NextReplayAt.After(now):
		return StateScheduled
	}
	return StateDue
}

// Scheduled reports whether the schedule replays items in this state by itself, now or
// later.
func (s State) Scheduled() bool { return s == StateScheduled || s == StateDue }

// Shown is an item as lists, answers and exports show it: its JSON carries the state.
type Shown struct {
	Item
	State State `json:"state"`
}

// Show returns the item with its state as of now.
func (it Item) Show(now time.Time) Shown { return Shown{Item: it, State: it.State(now)} }
