package model

// Rule is one thing that keeps the protocol sound. Each can be taken away; then the explorer finds what
// it is for.
type Rule uint8

// The rules.
const (
	BeginBeforeSend Rule = iota
	OneOwner
	OwnerAlone
	LeaseOutlivesSend
	AnswerBeforeDelivered
	PushBeforeTold
	UnknownIsHandedBack
	SpillBeforeTold
	FinishAfterPush
	LetterBelieved
	TakeoverLooks
	TakeoverAsksAgain
	TakeoverWithdraws
	FinishLooks
	NoteLooked
	PutBeforeAccepted
	MayBeStoredIsLeft
	ExpiredNeverBegins
	AckAfterSafe
	ClaimSkipsLeased
	LeaseOutlivesReplay
	SettleFenced
	ClaimSeesNotes
	RecordBeforeSettle
	SettleAfterSend
	FailedStays
	AmbiguousWaits
	DeathMayHaveArrived
	GoneMayHaveArrived
	CancelMarksFirst
	CancelTakesLetters
	CancelSparesReplays
	CancelSparesSenders
	CanceledStays
	CancelUndone
	CancelConfirms
	CancelNotes
	DiscardTells
	DiscardLeases
	UnparkKnowsDeath
	OrderLeavesJournal
	ReturnSkipsEnded
	ReturnAsksAgain
	ReturnSkipsCanceled
	ObjectBeforeEnded
	OneKeeper
	LackIsNoted
	FindNotesLack
	ProbeNeedsSlot
	SlotOutlivesProbe
	HoldStops
	LateClosesNothing
	rules // how many there are
)

// ruleTexts says each rule in one sentence. docs/guarantees.md shows them.
var ruleTexts = [rules]struct{ name, text string }{
	BeginBeforeSend:       {"BeginBeforeSend", "a sender has the delivery's record before it sends"},
	OneOwner:              {"OneOwner", "a record that somebody has under a running lease is nobody else's"},
	OwnerAlone:            {"OwnerAlone", "a record is handed back and finished by the token that has it"},
	LeaseOutlivesSend:     {"LeaseOutlivesSend", "a sender begins no attempt once its lease is over"},
	AnswerBeforeDelivered: {"AnswerBeforeDelivered", "`delivered` is said after the receiver answered"},
	PushBeforeTold:        {"PushBeforeTold", "`dead_lettered` is said after the push"},
	UnknownIsHandedBack:   {"UnknownIsHandedBack", "a push without a reply that was not spilled is handed back"},
	SpillBeforeTold:       {"SpillBeforeTold", "what the queue did not take is told once the journal has it"},
	FinishAfterPush:       {"FinishAfterPush", "a record says `dead_lettered` after the push"},
	LetterBelieved:        {"LetterBelieved", "a record that says `dead_lettered` is believed while its letter is there"},
	TakeoverLooks:         {"TakeoverLooks", "whoever takes a delivery over looks for its letter before sending"},
	TakeoverAsksAgain:     {"TakeoverAsksAgain", "whoever takes a delivery over and finds no letter asks the record again"},
	TakeoverWithdraws:     {"TakeoverWithdraws", "whoever took over and delivered removes the letter that another owner stored"},
	FinishLooks:           {"FinishLooks", "whoever finds that the record went further removes the letter that it stored"},
	NoteLooked:            {"NoteLooked", "what comes from the queue without a record is looked up among the notes of cancellations"},
	PutBeforeAccepted:     {"PutBeforeAccepted", "`accepted` is said once the queue has the message"},
	MayBeStoredIsLeft:     {"MayBeStoredIsLeft", "what may be stored or sent is handed back with its record, not forgotten"},
	ExpiredNeverBegins:    {"ExpiredNeverBegins", "no attempt begins once the message's time is over"},
	AckAfterSafe:          {"AckAfterSafe", "a message leaves the queue once its delivery is safe"},
	ClaimSkipsLeased:      {"ClaimSkipsLeased", "a claim leaves letters alone whose lease is running"},
	LeaseOutlivesReplay:   {"LeaseOutlivesReplay", "a replay begins no attempt once its lease is over"},
	SettleFenced:          {"SettleFenced", "a settlement looks at the lease's token"},
	ClaimSeesNotes:        {"ClaimSeesNotes", "a claim tells which letters are of canceled deliveries"},
	RecordBeforeSettle:    {"RecordBeforeSettle", "a replay tells the record before it settles the letter"},
	SettleAfterSend:       {"SettleAfterSend", "a letter is settled after its attempt"},
	FailedStays:           {"FailedStays", "a replay that failed leaves the letter"},
	AmbiguousWaits:        {"AmbiguousWaits", "what may have arrived is held, where the policy is `park`"},
	DeathMayHaveArrived:   {"DeathMayHaveArrived", "a process that died with a delivery counts as an attempt without an answer"},
	GoneMayHaveArrived:    {"GoneMayHaveArrived", "what begins anew, for its letter is gone, may have arrived before"},
	CancelMarksFirst:      {"CancelMarksFirst", "a cancellation marks the record before it takes the letters"},
	CancelTakesLetters:    {"CancelTakesLetters", "a cancellation takes the delivery's letters"},
	CancelSparesReplays:   {"CancelSparesReplays", "a cancellation is refused while a replay holds a letter"},
	CancelSparesSenders:   {"CancelSparesSenders", "a cancellation is refused while a sender has the record"},
	CanceledStays:         {"CanceledStays", "whatever comes under a canceled record is not sent"},
	CancelUndone:          {"CancelUndone", "a cancellation that is refused undoes its mark"},
	CancelConfirms:        {"CancelConfirms", "a cancellation marks the record once more when it has the letters"},
	CancelNotes:           {"CancelNotes", "a cancellation is noted beside the dead letters, too"},
	DiscardTells:          {"DiscardTells", "who discards a letter tells its record that an attempt of it may have arrived"},
	DiscardLeases:         {"DiscardLeases", "who discards a letter tells what it knows under the discard's lease"},
	UnparkKnowsDeath:      {"UnparkKnowsDeath", "who makes a letter due takes no lease away without counting the death under it"},
	OrderLeavesJournal:    {"OrderLeavesJournal", "what is ended by order is told once the journal has let it go"},
	ReturnSkipsEnded:      {"ReturnSkipsEnded", "what is over does not come back from the journal"},
	ReturnAsksAgain:       {"ReturnAsksAgain", "whoever brought a letter back tells its record, and removes what ended meanwhile"},
	ReturnSkipsCanceled:   {"ReturnSkipsCanceled", "what is noted as canceled does not come back from the journal"},
	ObjectBeforeEnded:     {"ObjectBeforeEnded", "an address is forgotten after its object is gone"},
	OneKeeper:             {"OneKeeper", "what changes the queue for the journal looks at the token of who works on it"},
	LackIsNoted:           {"LackIsNoted", "what the journal did not take is noted in the queue"},
	FindNotesLack:         {"FindNotesLack", "whoever finds the letter of another owner notes that the journal may lack it"},
	ProbeNeedsSlot:        {"ProbeNeedsSlot", "of a receiver that is left alone an attempt needs the one slot"},
	SlotOutlivesProbe:     {"SlotOutlivesProbe", "a probe begins while its slot is running"},
	HoldStops:             {"HoldStops", "nothing begins while the receiver has asked to wait"},
	LateClosesNothing:     {"LateClosesNothing", "an attempt without a slot does not end the outage"},
}

// String implements fmt.Stringer.
func (r Rule) String() string { return ruleTexts[r].name }

// Rules are rules that are taken away. The zero value: none is.
type Rules uint64

// Without takes rules away.
func Without(away ...Rule) (o Rules) {
	for _, r := range away {
		o |= 1 << r
	}
	return o
}

func (o Rules) without(r Rule) bool { return o&(1<<r) != 0 }

// Promise is what must hold in every state. The zero value: nothing is broken.
type Promise uint8

// The promises.
const (
	Kept Promise = iota // nothing is broken
	DeliveredIsTrue
	KeptIsTrue
	AcceptedIsTrue
	CanceledIsTrue
	OneSender
	NothingAfterCancel
	NothingAfterExpiry
	OrderIsFinal
	OneProbe
	HoldHolds
	NothingStays
	DoublesHaveCauses
	promises
)

var promiseTexts = [promises]struct{ name, text string }{
	Kept:               {"Kept", "nothing is broken"},
	DeliveredIsTrue:    {"DeliveredIsTrue", "told `delivered`: the receiver has it"},
	KeptIsTrue:         {"KeptIsTrue", "told `dead_lettered`: the queue or the journal has it, or the receiver, or it was ended by order"},
	AcceptedIsTrue:     {"AcceptedIsTrue", "told `accepted`: the same, or its message is in the queue"},
	CanceledIsTrue:     {"CanceledIsTrue", "told `canceled` without `may_have_arrived`: the receiver has not got it"},
	OneSender:          {"OneSender", "no two send the same letter at once under running leases"},
	NothingAfterCancel: {"NothingAfterCancel", "no attempt begins once somebody was told `canceled`"},
	NothingAfterExpiry: {"NothingAfterExpiry", "no attempt begins once the message's time is over"},
	OrderIsFinal:       {"OrderIsFinal", "what was given up, and its caller told, does not come back from the journal"},
	OneProbe:           {"OneProbe", "of a receiver that is down at most one attempt is under way"},
	HoldHolds:          {"HoldHolds", "no attempt begins while the receiver has asked to wait"},
	NothingStays:       {"NothingStays", "once nobody is at work, nobody died and no reply was lost, no letter waits of what its record says was delivered or canceled"},
	DoublesHaveCauses:  {"DoublesHaveCauses", "the receiver got it once, and once more for each cause in the history at most"},
}

// String implements fmt.Stringer.
func (p Promise) String() string { return promiseTexts[p].name }
