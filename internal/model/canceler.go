package model

// canceler is lib/delivery's Canceler: it marks the record, takes the letters, marks once more, removes
// the letters, and tells.
func (n *next) canceler(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	unknownEnd := func(s *State) { s.D[d].Doubtful = true; s.end(p) }
	refusedEnd := func(s *State) { s.end(p) }
	// undo goes back; what it answers is known unless the call was one whose reply was lost.
	undo := func(s *State) {
		switch {
		case away.without(CancelUndone):
			s.end(p)
		case !s.P[p].Marked: // the mark is another's
			s.end(p)
		case s.P[p].Noted:
			s.P[p].At = atUndoNote
		default:
			s.P[p].At = atUndoMark
		}
	}
	notes := func(r Record) bool {
		former := r.Former.Status
		return !away.without(CancelNotes) && (n.m.Journal || former == none || former == accepting || former == accepted || former == inProgress || r.Accepted)
	}
	first := atMark
	if away.without(CancelMarksFirst) {
		first = atTake
	}
	confirms := func(s *State) {
		r := s.D[d].Record
		f := r.Former.Status
		switch {
		case s.P[p].Took || !s.P[p].Marked || f != accepted && f != accepting:
			s.P[p].At = atConfirm
			if away.without(CancelConfirms) {
				s.P[p].At = atStrike
			}
		default:
			s.P[p].At = atTell
		}
	}

	switch me.At {
	case atMark:
		var v verdict
		var found Record
		n.call(p, d, "marks the record as canceled", func(s *State) {
			v, found = s.D[d].Record.move(move{event: onCancel, by: by}, away)
		}, func(s *State) {
			switch {
			case v == busy, v == finished && found.Status == delivered:
				if first == atTake {
					s.D[d].release(by)
				}
				refusedEnd(s)
			case first == atTake:
				s.P[p].Marked = v == isCanceled
				confirms(s)
			default:
				s.P[p].Marked, s.P[p].At = v == isCanceled, atTake
			}
		}, func(s *State, _ bool) { unknownEnd(s) })
	case atTake:
		leased := false
		note := notes(n.from.D[d].Record)
		n.call(p, d, "takes the letter, and notes the cancellation", func(s *State) {
			o := &s.D[d]
			if leased = o.Letter.There && o.Letter.Lease.runs() && !away.without(CancelSparesReplays); leased {
				return
			}
			if o.Letter.There && !away.without(CancelTakesLetters) {
				o.Letter.claim(by, away)
				s.P[p].Took = true
			}
			o.Note = o.Note || note
		}, func(s *State) {
			s.P[p].Noted = note && !leased
			switch {
			case leased:
				undo(s)
			case first == atTake:
				s.P[p].At = atMark
			default:
				confirms(s)
			}
		}, func(s *State, _ bool) { // it is not known whether it noted anything
			s.D[d].Doubtful = true
			s.P[p].Took, s.P[p].Noted = false, note
			undo(s)
		})
	case atConfirm:
		var v verdict
		n.call(p, d, "marks the record once more", func(s *State) {
			l := s.D[d].Letter
			seen := me.Took && l.Unanswered
			f := s.D[d].Record.Former.Status
			seen = seen || me.Marked && !me.Took && (f == deadLettered || f == expired) // nobody noted what became of it
			v, _ = s.D[d].Record.move(move{event: onConfirm, by: by, unanswered: seen}, away)
		}, func(s *State) {
			switch v {
			case finished: // a receiver has it
				s.P[p].Fate, s.P[p].At = isDelivered, atStrike
				s.unnote(p)
			case busy:
				s.unnote(p)
				s.D[d].release(by)
				refusedEnd(s)
			default:
				s.P[p].At = atStrike
			}
		}, func(s *State, _ bool) { unknownEnd(s) })
	case atStrike:
		if !me.Took || !n.from.D[d].Letter.Lease.of(by) {
			n.step(p, d, "has no letter to remove", well, func(s *State) {
				switch {
				case me.Took: // the lease was over before: it may be canceled already
					unknownEnd(s)
				case me.Fate == isDelivered:
					refusedEnd(s)
				default:
					s.P[p].At = atTell
				}
			})
			return
		}
		remove := func(s *State) { s.P[p].At = atSettle }
		if !n.m.Journal {
			n.step(p, d, "begins to remove the letter", well, remove)
			return
		}
		n.strike(p, remove, func(s *State) {
			s.D[d].Doubtful = true // 503: ask again
			s.P[p].At = atUndoLease
		})
	case atSettle:
		applied := false
		n.call(p, d, "removes the letter", func(s *State) {
			o := &s.D[d]
			if applied = o.Letter.There && o.Letter.Lease.of(by); applied {
				n.gives(s, d)
				o.remove(n.m.Journal)
			}
		}, func(s *State) {
			switch {
			case !applied:
				unknownEnd(s)
			case me.Fate == isDelivered:
				refusedEnd(s)
			default:
				s.P[p].At = atTell
			}
		}, func(s *State, _ bool) { unknownEnd(s) })
	case atTell:
		n.step(p, d, "tells canceled", well, func(s *State) {
			s.D[d].ToldCanceled = true
			for _, other := range s.P { // a discard that removed the letter, and is about to tell the record what that knew
				s.D[d].Forgot = s.D[d].Forgot || other.D == d && other.Role == discarder && other.At == atNote && other.Unanswered
			}
			if r := s.D[d].Record; !r.Unanswered && !s.D[d].Blind && r.Status == canceled {
				s.D[d].ToldSure = true
			}
			s.end(p)
		})
	case atUndoLease:
		n.call(p, d, "gives the lease back", func(s *State) { s.D[d].release(by) }, undo, func(s *State, _ bool) { undo(s) })
	case atUndoNote:
		n.call(p, d, "takes the note back", func(s *State) { s.unnote(p) }, func(s *State) { s.P[p].At = atUndoMark }, func(s *State, _ bool) { unknownEnd(s) })
	case atUndoMark:
		n.call(p, d, "takes the mark back", func(s *State) { s.D[d].Record.move(move{event: onUncancel, by: by}, away) },
			refusedEnd, func(s *State, _ bool) { unknownEnd(s) })
	}
}

// discarder is an operator who gives a letter up: it is leased, leaves the journal, then the queue.
func (n *next) discarder(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	doubt := func(s *State, _ bool) { s.D[d].Doubtful = true; s.end(p) }
	switch me.At {
	case atTake:
		if o := n.from.D[d]; !o.Letter.There || o.Letter.Lease.runs() {
			n.step(p, d, "is refused: there is no letter, or a replay holds it", well, func(s *State) { s.end(p) })
			return
		}
		read := n.from.D[d].Letter.Unanswered // before the lease
		n.call(p, d, "takes the letter to give it up", func(s *State) { s.D[d].Letter.claim(by, away) }, func(s *State) {
			s.P[p].At, s.P[p].Fate, s.P[p].Took, s.P[p].Unanswered = atSettle, isDiscarded, true, s.D[d].Letter.Unanswered
			if away.without(DiscardLeases) {
				s.P[p].Unanswered = read
			}
			if n.m.Journal {
				s.P[p].At = atStrike
			}
		}, doubt)
	case atStrike:
		n.strike(p, func(s *State) { s.P[p].At = atSettle }, func(s *State) {
			s.D[d].release(by)
			doubt(s, false)
		})
	case atSettle:
		applied := false
		n.call(p, d, "removes the letter", func(s *State) {
			applied = s.D[d].Letter.There && s.D[d].Letter.Lease.of(by)
			if applied {
				n.gives(s, d)
			}
			s.settle(p, n.m)
		}, func(s *State) {
			if s.P[p].At = atNote; !applied {
				doubt(s, false)
			}
		}, doubt)
	case atNote:
		tell := func(s *State) { s.P[p].At = atTell }
		n.call(p, d, "tells the record: "+toldDiscarded, func(s *State) {
			v, _ := s.D[d].Record.move(move{event: toldDiscarded, unanswered: me.Unanswered && !away.without(DiscardTells)}, away)
			s.D[d].Forgot = s.D[d].Forgot || v == stayed && me.Unanswered // somebody is at work, or it is canceled
		}, tell, func(s *State, made bool) {
			s.D[d].Blind = s.D[d].Blind || !made
			tell(s)
		})
	case atTell:
		n.step(p, d, "tells discarded", well, func(s *State) { s.D[d].ToldDiscarded = true; s.end(p) })
	}
}

// unnote takes a canceler's note back. It may be that of another cancellation, which came meanwhile: then the record alone
// knows of that.
func (s *State) unnote(p int) {
	s.D[s.P[p].D].unnote(s.ending(s.P[p].D, p))
}

func (d *Delivery) unnote(others bool) {
	d.Blind = d.Blind || d.Note && (d.ToldCanceled || others)
	d.Note = false
}

// gives notes that a letter is removed by order.
func (n *next) gives(s *State, d uint8) {
	o := &s.D[d]
	if a := bit(o.Letter.Address); n.m.Away.without(OrderLeavesJournal) || (o.Open|o.Spill)&a == 0 {
		o.Given |= a
	}
}
