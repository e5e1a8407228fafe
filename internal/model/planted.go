package model

// Planted is a fault of the protocol: a rule that is taken away, and the promise that the explorer finds broken then.
type Planted struct {
	Rule   Rule
	World  string
	Breaks Promise
}

// Faults are those that the tests plant, one for each rule. Their order is that of the rules.
var Faults = []Planted{
	{BeginBeforeSend, "two callers", OneSender},
	{OneOwner, "two callers", OneSender},
	{OwnerAlone, "late senders", OneSender},
	{LeaseOutlivesSend, "late senders", OneSender},
	{AnswerBeforeDelivered, "two callers", DeliveredIsTrue},
	{PushBeforeTold, "two callers", KeptIsTrue},
	{UnknownIsHandedBack, "two callers", KeptIsTrue},
	{SpillBeforeTold, "spilled", KeptIsTrue},
	{FinishAfterPush, "two callers", DoublesHaveCauses},
	{LetterBelieved, "others remove letters, no journal", KeptIsTrue},
	{TakeoverLooks, "two callers", DoublesHaveCauses},
	{TakeoverAsksAgain, "two callers", DoublesHaveCauses},
	{TakeoverWithdraws, "late senders", NothingStays},
	{FinishLooks, "late senders", NothingStays},
	{NoteLooked, "for later, records lost", NothingAfterCancel},
	{PutBeforeAccepted, "for later", AcceptedIsTrue},
	{MayBeStoredIsLeft, "two callers", DoublesHaveCauses},
	{ExpiredNeverBegins, "two callers", NothingAfterExpiry},
	{AckAfterSafe, "for later", AcceptedIsTrue},
	{ClaimSkipsLeased, "replays", OneSender},
	{LeaseOutlivesReplay, "replays", OneSender},
	{SettleFenced, "replays", OneSender},
	{ClaimSeesNotes, "cancellations", NothingAfterCancel},
	{RecordBeforeSettle, "two callers", DoublesHaveCauses},
	{SettleAfterSend, "two callers", KeptIsTrue},
	{FailedStays, "two callers", KeptIsTrue},
	{AmbiguousWaits, "what may have arrived", DoublesHaveCauses},
	{DeathMayHaveArrived, "for later", CanceledIsTrue},
	{GoneMayHaveArrived, "others remove letters, no journal", CanceledIsTrue},
	{CancelMarksFirst, "for later", NothingStays},
	{CancelTakesLetters, "for later", NothingStays},
	{CancelSparesReplays, "cancellations", NothingAfterCancel},
	{CancelSparesSenders, "for later", NothingAfterCancel},
	{CanceledStays, "for later", NothingAfterCancel},
	{CancelUndone, "for later, records lost", NothingStays},
	{CancelConfirms, "cancellations", NothingAfterCancel},
	{CancelNotes, "for later, records lost", NothingAfterCancel},
	{DiscardTells, "discards", CanceledIsTrue},
	{DiscardLeases, "an operator", CanceledIsTrue},
	{UnparkKnowsDeath, "an operator", CanceledIsTrue},
	{OrderLeavesJournal, "wiped", OrderIsFinal},
	{ReturnSkipsEnded, "spilled", DoublesHaveCauses},
	{ReturnAsksAgain, "others remove letters", NothingStays},
	{ReturnSkipsCanceled, "spilled, records lost", OrderIsFinal},
	{ObjectBeforeEnded, "the journal, records lost", DoublesHaveCauses},
	{OneKeeper, "late keepers", DoublesHaveCauses},
	{LackIsNoted, "wiped", KeptIsTrue},
	{FindNotesLack, "wiped, and a death", KeptIsTrue},
	{ProbeNeedsSlot, "an outage", OneProbe},
	{SlotOutlivesProbe, "an outage", OneProbe},
	{HoldStops, "an outage", HoldHolds},
	{LateClosesNothing, "an outage", OneProbe},
}
