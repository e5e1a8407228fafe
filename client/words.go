package client

// SinkState says how a sink is.
type SinkState string

// The states of a sink. The first that holds of SinkMisconfigured and SinkPaused is a sink's, or
// else what its own receiver gets.
const (
	SinkOK            SinkState = "ok"
	SinkFailing       SinkState = "failing"       // deliveries fail; both sides are counted
	SinkOpen          SinkState = "open"          // the receiver is down, and left alone but for one probe at a time
	SinkHeld          SinkState = "held"          // the receiver asked everybody to wait
	SinkPaused        SinkState = "paused"        // by an operator
	SinkMisconfigured SinkState = "misconfigured" // its sends are dead-lettered
)

// SinkStates are all states of a sink.
var SinkStates = []SinkState{SinkOK, SinkFailing, SinkOpen, SinkHeld, SinkPaused, SinkMisconfigured}

// Reason says why a delivery failed.
type Reason string

// The reasons.
const (
	ReasonTerminal  Reason = "terminal"  // no further attempt can cure it
	ReasonExhausted Reason = "exhausted" // the last allowed attempt failed, and the failure may pass
	ReasonDeadline  Reason = "deadline"  // no time was left for another attempt
	ReasonCanceled  Reason = "canceled"  // the caller went away
	ReasonAmbiguous Reason = "ambiguous" // it was sent, no answer came, and sending again may duplicate
	ReasonConfig    Reason = "config"    // the sink is configured wrongly
	ReasonInvalid   Reason = "invalid"   // the message can never be sent as it is
	ReasonOpen      Reason = "open"      // the receiver is down and left alone
	ReasonThrottled Reason = "throttled" // the receiver asked to wait, for longer than there was time
	ReasonExpired   Reason = "expired"   // its time was over before it was delivered
)

// Reasons are all reasons. Dead letters of other programs may have none, or another.
var Reasons = []Reason{ReasonTerminal, ReasonExhausted, ReasonDeadline, ReasonCanceled, ReasonAmbiguous, ReasonConfig, ReasonInvalid, ReasonOpen, ReasonThrottled, ReasonExpired}

// State says what will happen to a dead letter.
type State string

// The states. The first that holds is a dead letter's.
const (
	StateUnreadable State = "unreadable" // its entry cannot be read; it can be discarded
	StateDelivered  State = "delivered"  // a replay delivered it, and it was kept
	StateReplaying  State = "replaying"  // a replay holds it just now
	StateExpired    State = "expired"    // its time is over
	StateParked     State = "parked"     // replayed too often; an operator decides
	StateWaiting    State = "waiting"    // its reason, or how a replay failed, leaves it to an operator
	StateScheduled  State = "scheduled"  // the schedule replays it at NextReplayAt
	StateDue        State = "due"        // the schedule replays it at its next tick
)

// States are all states.
var States = []State{
	StateUnreadable, StateDelivered, StateReplaying, StateExpired, StateParked, StateWaiting, StateScheduled, StateDue,
}

// DeliveryStatus says what became of a delivery.
type DeliveryStatus string

// What becomes of deliveries.
const (
	DeliveryAccepting    DeliveryStatus = "accepting" // it is being put on the queue
	DeliveryAccepted     DeliveryStatus = "accepted"  // it is in the queue, perhaps for later
	DeliveryInProgress   DeliveryStatus = "in_progress"
	DeliveryDelivered    DeliveryStatus = "delivered"
	DeliveryDeadLettered DeliveryStatus = "dead_lettered"
	DeliveryExpired      DeliveryStatus = "expired"   // its time was over before it was delivered
	DeliveryDiscarded    DeliveryStatus = "discarded" // dead-lettered, and given up by an operator
	DeliveryCanceled     DeliveryStatus = "canceled"  // stopped by a caller: no attempt begins any more
)

// NextEvent says what comes for a delivery.
type NextEvent string

// What comes.
const (
	NextAttempt  NextEvent = "attempt"  // it is sent
	NextReplay   NextEvent = "replay"   // the schedule replays it, unless its sink is paused or its receiver is down
	NextOperator NextEvent = "operator" // nothing by itself: an operator decides
	NextExpiry   NextEvent = "expiry"   // its time is over before anything else
	NextReturn   NextEvent = "return"   // it comes from the journal into the queue once there is room; State says what comes then
)

// ReplayStatus is the outcome of one replay.
type ReplayStatus string

// The outcomes of a replay.
const (
	ReplayDelivered ReplayStatus = "delivered"
	ReplayFailed    ReplayStatus = "failed"
	ReplayParked    ReplayStatus = "parked" // failed too often: the schedule leaves it alone from now on
)

// OnSuccess is the fate of a dead letter that a replay delivered. Empty: OnSuccessDiscard.
type OnSuccess string

// What happens to a dead letter that a replay delivered.
const (
	OnSuccessDiscard OnSuccess = "discard"
	OnSuccessKeep    OnSuccess = "keep" // it stays, marked as delivered
)

// Action is what a bulk operation does to each dead letter.
type Action string

// The actions.
const (
	ActionReplay  Action = "replay"
	ActionDiscard Action = "discard" // for good, kept ones too
	ActionRestore Action = "restore" // bring back from the journal what the queue lacks
	ActionAudit   Action = "audit"   // compare queue and journal, letter by letter
	ActionErase   Action = "erase"   // remove what is for one recipient, from queue and journal
)

// OperationStatus is how far a bulk operation is.
type OperationStatus string

// The statuses of an operation; the last three are final.
const (
	OperationQueued    OperationStatus = "queued"
	OperationRunning   OperationStatus = "running"
	OperationStopped   OperationStatus = "stopped"   // a receiver failed too often in a row; it waits to be resumed or canceled
	OperationCompleted OperationStatus = "completed" // every item was settled or skipped
	OperationCanceled  OperationStatus = "canceled"
	OperationFailed    OperationStatus = "failed" // some sink could not be worked on
)

// ImportStatus is what became of an imported line.
type ImportStatus string

// What becomes of imported lines.
const (
	ImportStored   ImportStatus = "stored"
	ImportExists   ImportStatus = "exists"   // it was there already
	ImportSkipped  ImportStatus = "skipped"  // it was delivered; nothing is to be done
	ImportRejected ImportStatus = "rejected" // the line is wrong
	ImportFailed   ImportStatus = "failed"   // it could not be stored now: import it again later
)
