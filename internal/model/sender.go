package model

// place is what a process does next.
type place uint8

const (
	atBegin place = iota
	atRepeat
	atBeginAnew
	atNoted
	atFind
	atPut
	atAccepted
	atGate
	atAttempt
	atAnswered // the receiver is at it
	atPush
	atLack
	atSpill
	atTakeBack
	atHandBack
	atFinish
	atWithdraw
	atTell
	// Replays.
	atClaim
	atBegun
	atNote
	atStrike
	atSettle
	atRelease
	// Cancellations and discards.
	atMark
	atTake
	atConfirm
	atUndoNote
	atUndoMark
	atUndoLease
	// The journal's keeper.
	atLease
	atRead
	atAsk
	atReturn
	atAskAgain
	atOver
	atForgetSpill
	atWrite
	atWritten
	atDelete
	atDeleted
	atGiveBack
)

// sender is lib/delivery's Sender with one request: of a caller, or a message of the queue.
func (n *next) sender(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	queued := me.Role == receiverOfQueue
	// go to a place, with what goes with it
	to := func(at place) func(*State) { return func(s *State) { s.P[p].At = at } }
	tells := func(s *State, f fate) { s.P[p].At, s.P[p].Fate = atTell, f }
	handsBack := func(s *State, how back) {
		if me.Unanswered || s.P[p].Before {
			how = backLeave
		}
		s.P[p].At, s.P[p].Back, s.P[p].Then = atHandBack, how, noFate
	}

	switch me.At {
	case atBegin, atBeginAnew:
		if away.without(BeginBeforeSend) && !me.Later {
			n.step(p, d, "sends without its record", well, to(atGate))
			return
		}
		event := onSend
		switch {
		case queued:
			event = onQueued
		case me.Later:
			event = onAccept
		}
		var v verdict
		n.call(p, d, "begins the record", func(s *State) {
			o := &s.D[d]
			o.asked(queued)
			o.Forgot = o.Forgot || me.At == atBeginAnew && s.ending(d, -1) // a discard tells the record after this
			if me.At == atBeginAnew && o.Record.Unanswered {
				o.cause() // where what may have arrived is held, its letter was held
			}
			v, _ = o.Record.move(move{event: event, by: by, untrue: me.At == atBeginAnew, lease: true}, away)
		}, func(s *State) { n.begun(s, p, v) }, func(s *State, _ bool) {
			if queued { // it may have been canceled since it was accepted
				n.handedBack(s, p)
				return
			}
			s.D[d].cause()
			if s.P[p].At = atGate; me.Looked {
				return
			}
			s.P[p].Blind, s.D[d].Blind = true, true
			if me.Later {
				s.P[p].At = atPut
			}
		})
	case atRepeat:
		n.step(p, d, "looks for the letter that the record speaks of", well, func(s *State) {
			o := &s.D[d]
			if o.Letter.There || o.Spill&^o.Ended != 0 || away.without(LetterBelieved) {
				tells(s, isKept)
				return
			}
			s.P[p].At, s.P[p].Unseen = atBeginAnew, true
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "looks for the letter that the record speaks of", "it cannot be read", func(s *State) {
				s.Left.Faults--
				s.D[d].cause()
				s.P[p].At, s.P[p].Unseen = atBeginAnew, true
			})
		}
	case atNoted:
		n.step(p, d, "looks among the notes of cancellations", well, func(s *State) {
			me := &s.P[p]
			switch {
			case s.D[d].Note && !away.without(NoteLooked):
				me.At, me.Back, me.Then = atHandBack, backForget, isGivenUp
			case me.Later:
				me.At = atPut
			case me.Unseen:
				me.At = atFind
			default:
				me.At = atGate
			}
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "looks among the notes of cancellations", "they cannot be read", func(s *State) {
				s.Left.Faults--
				handsBack(s, backLeave)
			})
		}
	case atFind:
		n.step(p, d, "looks for the letter of the owner before", well, func(s *State) {
			o := &s.D[d]
			switch {
			case away.without(TakeoverLooks):
				s.P[p].At = atGate
			case o.Letter.There:
				if n.m.Journal && !away.without(FindNotesLack) {
					o.Unjournaled = true
				}
				s.P[p].At, s.P[p].Fate, s.P[p].Stored = atFinish, isKept, true
			case o.Spill&^o.Ended != 0:
				s.P[p].At, s.P[p].Fate, s.P[p].Spilled = atFinish, isKept, true
			case away.without(TakeoverAsksAgain):
				s.P[p].At = atGate
			default: // a replay that had it may have told the record and removed it since that was taken over
				s.P[p].At, s.P[p].Looked = atBegin, true
			}
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "looks for the letter of the owner before", "it cannot be read", func(s *State) {
				s.Left.Faults--
				s.D[d].cause()
				s.P[p].At = atGate
			})
		}
	case atPut:
		put := func(s *State) { s.D[d].send() }
		if away.without(PutBeforeAccepted) && me.Fate != isAccepted {
			n.step(p, d, "tells before it puts the message into the queue", well, func(s *State) {
				s.D[d].ToldAccepted, s.P[p].Fate = true, isAccepted
			})
			return
		}
		n.call(p, d, "puts the message into the queue", put, to(atAccepted), func(s *State, _ bool) { handsBack(s, backLeave) })
		if n.from.Left.Faults > 0 {
			n.step(p, d, "puts the message into the queue", "the queue says no", func(s *State) {
				s.Left.Faults--
				how := backForget
				if me.Again {
					how = backLeave
				}
				handsBack(s, how)
			})
		}
	case atAccepted:
		n.call(p, d, "tells the record that it is accepted", func(s *State) {
			s.D[d].Record.move(move{event: onAccepted, by: by}, away)
		}, func(s *State) { tells(s, isAccepted) }, func(s *State, _ bool) { tells(s, isAccepted) })
	case atGate:
		if n.from.D[d].Expired && !away.without(ExpiredNeverBegins) {
			n.step(p, d, "sees that its time is over", well, func(s *State) {
				if queued {
					n.pushes(s, p, isExpired)
				} else {
					handsBack(s, backForget)
				}
			})
			return
		}
		n.ask(p, d, to(atAttempt), func(s *State) { n.pushes(s, p, isKept) })
	case atAttempt:
		n.begins(p, d, away.without(LeaseOutlivesSend), func(s *State) { n.pushes(s, p, isKept) }, func(s *State) { n.pushes(s, p, isExpired) })
	case atAnswered:
		n.answers(p, d, func(s *State) {
			s.P[p].At, s.P[p].Fate = atFinish, isDelivered
		}, func(s *State) { n.pushes(s, p, isKept) })
	case atPush:
		n.push(p)
	case atLack:
		n.call(p, d, "notes in the queue that the journal lacks it", func(s *State) {
			if !away.without(LackIsNoted) {
				s.D[d].Unjournaled = s.D[d].Letter.There
			}
		}, to(atFinish), func(s *State, made bool) {
			s.D[d].Lost = s.D[d].Lost || !made
			s.P[p].At = atFinish
		})
	case atSpill:
		if away.without(SpillBeforeTold) && !me.Spilled {
			n.step(p, d, "tells before the journal has it", well, func(s *State) { s.D[d].ToldKept, s.P[p].Spilled = true, true })
			return
		}
		n.step(p, d, "spills it", well, func(s *State) {
			s.D[d].write(&s.D[d].Spill, me.Address)
			s.P[p].At, s.P[p].Spilled = atFinish, true
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "spills it", "the journal does not take it", func(s *State) {
				s.Left.Faults--
				s.P[p].At = atTakeBack
				if me.Doubt && away.without(UnknownIsHandedBack) {
					s.P[p].At = atFinish
				}
			})
		}
	case atTakeBack:
		n.call(p, d, "takes back what the journal has", func(s *State) { s.D[d].takeBack(me.Address) },
			func(s *State) { n.pushFailed(s, p) }, func(s *State, _ bool) {
				s.D[d].cause()
				n.pushFailed(s, p)
			})
	case atHandBack:
		n.call(p, d, "hands the record back: "+backEvents[me.Back], func(s *State) {
			if !me.Blind {
				s.D[d].Record.move(move{event: backEvents[me.Back], by: by, unanswered: me.Unanswered, lease: me.Back == backLeave}, away)
			}
		}, func(s *State) { n.handedBack(s, p) }, func(s *State, _ bool) {
			s.D[d].cause()
			n.handedBack(s, p)
		})
	case atFinish:
		n.finish(p)
	case atWithdraw:
		n.withdraw(p)
	case atTell:
		n.step(p, d, "tells "+fateWords[me.Fate], well, func(s *State) {
			s.D[d].tell(me.Fate)
			if queued && (away.without(AckAfterSafe) || s.D[d].Messages[me.Message] != no) {
				s.D[d].Messages[me.Message] = no
			}
			s.end(p)
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "tells "+fateWords[me.Fate], "nobody hears of it", func(s *State) {
				s.Left.Faults--
				n.handedBack(s, p)
			})
		}
	}
}

var fateWords = []string{"nothing", "delivered", "dead-lettered", "expired", "accepted", "canceled", "discarded", "failed", "held"}

// asked notes that somebody begins: of what was lost nobody knows what was, and notes are for what comes from the queue.
func (d *Delivery) asked(queued bool) {
	if d.Evicted {
		d.cause()
		d.Evicted = false
	}
	d.Blind = d.Blind || d.Unremembered && !queued
}

// tell notes what a caller was told.
func (d *Delivery) tell(f fate) {
	switch f {
	case isDelivered:
		d.ToldDelivered = true
	case isKept, isExpired:
		d.ToldKept = true
	case isAccepted:
		d.ToldAccepted = true
	case isGivenUp, isDiscarded, isFailed, isHeld, noFate:
	}
}

// send puts a message into the queue of requests.
func (d *Delivery) send() {
	for i := range d.Messages {
		if d.Messages[i] == no {
			d.Messages[i] = waits
			return
		}
	}
}

// takeBack removes objects of a push.
func (d *Delivery) takeBack(address uint8) {
	if address > 0 {
		d.Open &^= bit(address)
		d.Spill &^= bit(address)
	}
}

// begun goes on as the record says.
func (n *next) begun(s *State, p int, v verdict) {
	me := &s.P[p]
	d := &s.D[me.D]
	queued := me.Role == receiverOfQueue
	me.Before = d.Record.Unanswered
	switch v {
	case started:
		me.At = atGate
	case takenOver:
		if me.Looked {
			me.At = atGate
			break
		}
		me.Unseen, me.At = true, atFind
		if queued {
			me.At = atNoted
		}
	case unknown, acceptingNow:
		me.At = atNoted
	case acceptingAgain:
		me.At, me.Again = atNoted, true
	case isCanceled:
		me.At, me.Fate = atTell, isGivenUp
	case finished:
		switch d.Record.Status {
		case deadLettered, expired:
			me.At = atRepeat
		case delivered:
			me.At, me.Fate = atTell, isDelivered
		case accepted:
			me.At, me.Fate = atTell, isAccepted
		case discarded:
			me.At, me.Fate = atTell, isDiscarded
		case canceled, none, inProgress, accepting, forget, restore:
			me.At, me.Fate = atTell, isGivenUp
		}
	case busy, stayed, written, reused:
		n.handedBack(s, p)
	}
}

// handedBack ends a sender whose caller still owns the message; of a message that is the queue.
func (n *next) handedBack(s *State, p int) {
	me := s.P[p]
	if me.Role == receiverOfQueue && s.D[me.D].Messages[me.Message] == out {
		s.D[me.D].Messages[me.Message] = waits
	}
	s.leaveGate(p)
	s.end(p)
}

// pushes goes on to store it as a dead letter.
func (n *next) pushes(s *State, p int, f fate) {
	me := &s.P[p]
	s.leaveGate(p)
	me.At, me.Fate, me.Pushed, me.Opened, me.Failed, me.Stored, me.Doubt = atPush, f, false, !n.m.Journal, false, false, false
	me.Address = s.D[me.D].address()
	if me.Refused || n.m.Park && me.Unanswered {
		s.D[me.D].Held |= bit(me.Address)
	}
	if me.Unanswered || me.Before {
		s.D[me.D].Blurred |= bit(me.Address)
	}
	if n.m.Away.without(FinishAfterPush) {
		me.At = atFinish
	}
}

// push writes to the queue and to the journal at the same time.
func (n *next) push(p int) {
	me := n.from.P[p]
	d, away := me.D, n.m.Away
	if away.without(PushBeforeTold) && !me.Marked {
		n.step(p, d, "tells before it pushes", well, func(s *State) { s.D[d].ToldKept, s.P[p].Marked = true, true })
		return
	}
	decide := func(s *State) {
		me := &s.P[p]
		switch {
		case !me.Pushed || !me.Opened:
		case me.Stored && me.Failed:
			me.At = atLack
		case me.Stored:
			me.At = atFinish
		case n.m.Journal:
			me.At = atSpill
		case me.Doubt && away.without(UnknownIsHandedBack):
			me.At = atFinish
		default:
			n.pushFailed(s, p)
		}
	}
	if !me.Pushed {
		l := Letter{Held: n.from.D[d].Held&bit(me.Address) != 0, Expired: me.Fate == isExpired, Unanswered: me.Unanswered || me.Before}
		n.call(p, d, "pushes it to the queue", func(s *State) { s.D[d].push(me.Address, l, n.m.Journal) },
			func(s *State) { s.P[p].Pushed, s.P[p].Stored = true, true; decide(s) },
			func(s *State, _ bool) { s.P[p].Pushed, s.P[p].Doubt = true, true; decide(s) })
		if n.from.Left.Fulls > 0 && !n.from.D[d].Letter.There {
			n.step(p, d, "pushes it to the queue", "the queue is full", func(s *State) {
				s.Left.Fulls--
				s.P[p].Pushed = true
				decide(s)
			})
		}
	}
	if !me.Opened {
		n.step(p, d, "writes it to the journal", well, func(s *State) {
			s.D[d].write(&s.D[d].Open, me.Address)
			s.P[p].Opened = true
			decide(s)
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "writes it to the journal", "the journal does not take it", func(s *State) {
				s.Left.Faults--
				s.P[p].Opened, s.P[p].Failed = true, true
				decide(s)
			})
		}
	}
}

// pushFailed hands back what could not be kept.
func (n *next) pushFailed(s *State, p int) {
	me := &s.P[p]
	if me.Receipt {
		s.D[me.D].cause()
	}
	me.At, me.Then = atHandBack, noFate
	switch {
	case (me.Doubt || me.Unanswered || me.Before) && !n.m.Away.without(MayBeStoredIsLeft):
		me.Back = backLeave
	case me.Role == receiverOfQueue:
		me.Back = backRequeue
	default:
		me.Back = backForget
	}
}

// finish tells the record, and goes by what that knows.
func (n *next) finish(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	event := map[fate]string{isDelivered: onDelivered, isKept: onDeadLettered, isExpired: onExpired}[me.Fate]
	then := func(s *State) {
		s.P[p].At = atTell
		if away.without(FinishAfterPush) && !s.P[p].Pushed && me.Fate != isDelivered && !me.Stored && !me.Spilled {
			s.P[p].At = atPush
		}
	}
	var v verdict
	var found Record
	n.call(p, d, "tells the record: "+event, func(s *State) {
		v, found = s.D[d].Record.move(move{event: event, by: by, unanswered: me.Unanswered}, away)
		s.P[p].Receipt = false
	}, func(s *State) {
		over := found.Status == canceled || found.Status == delivered || found.Status == discarded
		spoke := found.Status == deadLettered || found.Status == expired
		then(s)
		switch {
		case v == written && me.Fate == isDelivered && (me.Unseen || spoke):
			if !away.without(TakeoverWithdraws) {
				s.P[p].At = atWithdraw
			}
		case v != written && over && !away.without(FinishLooks):
			s.P[p].At = atWithdraw
			switch found.Status {
			case delivered:
				s.P[p].Fate = isDelivered
			case discarded:
				s.P[p].Fate = isDiscarded
			default:
				// It may be a mark that is being undone, by a cancellation that is refused: then it is canceled all the same.
				s.P[p].Fate = isGivenUp
				s.D[d].Doubtful = s.D[d].Doubtful || s.ending(d, p)
			}
		}
	}, func(s *State, made bool) {
		if me.Receipt || me.Unseen || !made {
			s.D[d].cause()
		}
		s.D[d].Blind = s.D[d].Blind || !made
		then(s)
	})
}

// withdraw removes the letter of what was delivered, discarded or canceled by somebody else.
func (n *next) withdraw(p int) {
	me := n.from.P[p]
	d := me.D
	tell := func(s *State) { s.P[p].At = atTell }
	n.step(p, d, "removes the letter of a delivery that is over", well, func(s *State) {
		o := &s.D[d]
		switch {
		case !o.Letter.There:
		case o.Letter.Lease.runs(): // it stays, and may arrive twice; the log says so
			o.cause()
		default:
			o.takeBack(o.Letter.Address)
			o.remove(n.m.Journal)
		}
		tell(s)
	})
	if n.from.Left.Faults > 0 {
		n.step(p, d, "removes the letter of a delivery that is over", away, func(s *State) {
			s.Left.Faults--
			s.D[d].cause()
			tell(s)
		})
	}
}
