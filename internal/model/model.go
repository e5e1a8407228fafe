// Package model is the whole protocol of Backstop as one state machine: what senders, the queue of
// requests, replays, cancellations, discards, the journal's keeper and the gate do to one another,
// one call of a store or of a receiver at a time. It does no input or output and knows no time: a
// lease that runs out, a message whose time is over and a hold that ends are steps like any other.
//
// What a record becomes is decided by the table of lib/delivery itself (record.go). Each file has one part: the
// letters and objects (letters.go), the processes (sender.go, replayer.go, canceler.go, keeper.go),
// what the world does to them (world.go), and what must hold (promises.go). explore.go searches.
package model

import "hash/maphash"

// The most of a world.
const (
	mostDeliveries = 2
	mostProcesses  = 3
	mostMessages   = 2
	mostAddresses  = 6
)

// State is everything at one moment. It can be compared, and has no pointers.
type State struct {
	D      [mostDeliveries]Delivery
	P      [mostProcesses]Process
	Gate   Gate
	Keeper Lease // who works on the journal
	Left   Budget
	Broken Promise
}

// Delivery is what the stores, the queue of requests and the receiver have of a delivery, and what was
// said of it.
type Delivery struct {
	Record Record
	Letter Letter
	// Note: it is noted beside the letters as canceled.
	Note bool
	// Open and Spill are the objects of the journal, Ended the addresses that the queue notes as over;
	// one bit for each address, of which Addresses were given out. Held are those of letters that wait
	// for an operator, Blurred those of which an attempt may have arrived.
	Open, Spill, Ended, Held, Blurred, Addresses uint8
	// Given are the addresses of letters that were removed by order.
	Given uint8
	// Unjournaled: the queue notes that the journal lacks its letter.
	Unjournaled bool
	Messages    [mostMessages]uint8 // of the queue of requests: no, waits or out
	Expired     bool                // its time is over

	// Received is how often the receiver got it, Causes for how many doubles there is a cause by now,
	// and Answered whether the receiver said that it has it.
	Received, Causes uint8
	Answered         bool
	// What callers were told.
	ToldDelivered, ToldKept, ToldAccepted, ToldCanceled, ToldSure, ToldDiscarded bool
	// Doubtful: somebody wanted its end and does not know what became of that.
	Doubtful bool
	// Loose: somebody died, or lost a reply, who was to remove a letter of it.
	Loose bool
	// Unremembered: its record was lost once. Evicted: and nobody has begun since.
	Unremembered, Evicted bool
	// Forgot: its letter went, and what that knew of attempts that may have arrived is in no record.
	Forgot bool
	// Blind: its record was lost, or could not be read. Lost: so was its letter, and the queue had said that the journal lacks it.
	Blind, Lost bool
}

// Letter is a delivery's dead letter in the queue.
type Letter struct {
	There      bool
	Lease      Lease
	Address    uint8 // its number, from 1
	Held       bool  // it waits for an operator
	Expired    bool  // it is marked so
	Unanswered bool  // an attempt may have arrived
	Died       bool  // whoever replayed it last died
	Begun      token // whose replay of it began, after a death
}

// Lease is a right that ends by itself. The zero value is nobody's.
type Lease struct {
	By   token
	Over bool
}

func (l Lease) runs() bool         { return l.By != 0 && !l.Over }
func (l Lease) of(by token) bool   { return l.By == by }
func (l Lease) held(by token) bool { return l.of(by) && !l.Over }

// Gate is what all processes together know of the receiver.
type Gate struct {
	Down bool  // it is left alone but for one probe
	Wait bool  // it has asked to wait
	Slot Lease // of the probe
	// Ill is the truth: it has been down since, and no probe was answered.
	Ill bool
}

// The states of a message.
const (
	no    = 0
	waits = 1
	out   = 2 // somebody has received it
)

// Process is one invocation, or nobody.
type Process struct {
	Role role
	At   place // what it does next
	D    uint8 // the delivery
	// Message is the index of the one that it came with; of a sender from the queue.
	Message uint8
	// Fate is what it is going to tell or to settle.
	Fate fate
	// Address is that of its push, or of the object that a keeper works on; 0: none.
	Address uint8

	Later      bool // it is asked to put the message into the queue of requests
	Again      bool // another was about to, and the queue may have it
	Unseen     bool // another owner may have stored a letter
	Blind      bool // it could not read its record
	Unanswered bool // one of its attempts had no answer
	Refused    bool // the receiver refused it for good
	Ordered    bool // a replay that an operator asked for
	Before     bool // or one of somebody before
	Looked     bool // it took over, and found no letter
	Sending    bool // an attempt is under way
	Slot       bool // it has the gate's slot
	Since      bool // the gate was asked after the receiver was left alone
	Waited     bool // or while that had asked to wait
	Late       bool // its lease ended under it
	Receipt    bool // the receiver has it, and nothing says so yet
	Stored     bool // the queue took its push
	Doubt      bool // the queue may have taken it
	Pushed     bool // the queue was called, and
	Opened     bool // so was the journal
	Failed     bool // which did not take it
	Spilled    bool
	Asked      bool // a keeper, its record, before it brought the letter back
	Marked     bool // a canceler's own mark; a sender: the record spoke of a letter
	Noted      bool // it may have noted the cancellation
	Took       bool // it leased a letter
	Back       back // how a sender hands back
	Then       fate // what it tells after that; none: that it is the caller's again
}

type role uint8

const (
	idle role = iota
	sender
	receiverOfQueue
	replayer
	canceler
	discarder
	keeper
)

var roleNames = []string{"nobody", "sender", "worker", "replayer", "canceler", "operator", "keeper"}

// fate is what became of a delivery.
type fate uint8

const (
	noFate fate = iota
	isDelivered
	isKept    // dead-lettered
	isExpired // likewise, for its time is over
	isAccepted
	isGivenUp // canceled
	isDiscarded
	isFailed // of a replay: the letter stays
	isHeld   // likewise, and waits for an operator
)

// back is how a delivery is handed back, as its record sees it.
type back uint8

const (
	backForget back = iota
	backRequeue
	backLeave
)

var backEvents = []string{onForget, onRequeue, onLeave}

// Budget is what may still happen.
type Budget struct {
	Calls    int8 // requests of callers
	Later    int8 // of them, those that may ask to be accepted for later
	Receives int8 // messages that are handed out
	Replays  int8
	Cancels  int8
	Discards int8
	Orders   int8 // of an operator: replays of what waits, and unparking
	Keeps    int8 // ticks of the journal

	Faults  int8 // replies that are lost, calls that do not arrive, answers that do not come
	Deaths  int8
	Lates   int8 // leases that end under a living process
	Fulls   int8 // pushes that a full queue refuses
	Wipes   int8
	Trims   int8 // letters that others remove
	Evicts  int8 // records that are lost
	Outages int8
	Holds   int8
}

// World says how large it is, what its sinks are like, and what may happen.
type World struct {
	Name       string
	Deliveries int
	Processes  int
	Journal    bool // there is one
	Park       bool // what may have arrived is not sent again
	Refuses    bool // a receiver may refuse it for good: then it waits for an operator
	Expire     bool // times may end
	Budget     Budget
}

// Model is the protocol in a world.
type Model struct {
	World
	Away Rules // taken away
}

// Start returns the first state.
func (m Model) Start() State { return State{Left: m.Budget} }

// Label names a step.
type Label struct {
	Who  int8 // the process; -1: the world
	Role role
	D    uint8
	Do   string
	How  string
}

// Step is one way to go on.
type Step struct {
	Label
	To State
}

// next collects the steps from a state.
type next struct {
	m     *Model
	from  *State
	steps []Step
}

// step adds a step of process p (-1: of the world); do changes the state.
func (n *next) step(p int, d uint8, what, how string, do func(s *State)) {
	l := Label{Who: int8(p), D: d, Do: what, How: how}
	if p >= 0 {
		l.Role = n.from.P[p].Role
	}
	n.steps = append(n.steps, Step{l, *n.from})
	s := &n.steps[len(n.steps)-1].To
	do(s)
	s.judge(n.m)
}

// How a call goes on, besides well.
const (
	well   = ""
	silent = "the call is made, and its reply never comes"
	away   = "the call never arrives"
)

// call adds the steps of a call of a store: effect is what it does there, then what its reply leads to, and
// lost what the caller does without one (nil: it asks until there is one). A caller that dies after its
// call is one that dies before its next step.
func (n *next) call(p int, d uint8, what string, effect, then func(s *State), lost func(s *State, made bool)) {
	n.step(p, d, what, well, func(s *State) { effect(s); then(s) })
	if n.from.Left.Faults <= 0 || lost == nil {
		return
	}
	n.step(p, d, what, silent, func(s *State) {
		s.Left.Faults--
		s.D[d].Loose = true
		effect(s)
		lost(s, true)
	})
	n.step(p, d, what, away, func(s *State) {
		s.Left.Faults--
		s.D[d].Loose = true
		lost(s, false)
	})
}

// Next returns every way to go on from s, into steps.
func (m *Model) Next(s *State, steps []Step) []Step {
	n := next{m: m, from: s, steps: steps[:0]}
	if s.Broken != Kept {
		return n.steps
	}
	n.world()
	for p := range m.Processes {
		switch s.P[p].Role {
		case idle:
		case sender, receiverOfQueue:
			n.sender(p)
		case replayer:
			n.replayer(p)
		case canceler:
			n.canceler(p)
		case discarder:
			n.discarder(p)
		case keeper:
			n.keeper(p)
		}
	}
	return n.steps
}

// end ends a process: nobody has its tokens any more.
func (s *State) end(p int) {
	s.P[p] = Process{}
	by := token(p + 1)
	lost := func(t *token) {
		if *t == by {
			*t = gone
		}
	}
	for i := range s.D {
		d := &s.D[i]
		lost(&d.Record.Token)
		lost(&d.Record.Former.Token)
		lost(&d.Letter.Lease.By)
		lost(&d.Letter.Begun)
	}
	lost(&s.Gate.Slot.By)
	lost(&s.Keeper.By)
}

// begin begins a process with these values, if there is one that is idle.
func (s *State) begin(v Process) {
	for p := range s.P {
		if s.P[p].Role == idle {
			s.P[p] = v
			return
		}
	}
}

var seed = maphash.MakeSeed()

// hash is that of a state.
func (s *State) hash() uint64 { return maphash.Comparable(seed, *s) }
