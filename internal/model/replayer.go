package model

// replayer is lib/replay's engine with one letter: claim, send, tell the record, settle.
func (n *next) replayer(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	o := &n.from.D[d]
	settles := func(s *State, f fate) {
		s.leaveGate(p)
		s.P[p].Fate, s.P[p].At = f, atSettle
		switch {
		case f == isGivenUp && n.m.Journal:
			s.P[p].At = atStrike
		case f == isDelivered || f == isExpired:
			if !away.without(RecordBeforeSettle) {
				s.P[p].At = atNote
			}
		}
	}
	end := func(s *State) {
		s.leaveGate(p)
		s.end(p)
	}
	releases := func(s *State) { s.leaveGate(p); s.P[p].At = atRelease }

	switch me.At {
	case atClaim:
		free := !o.Letter.Lease.runs() || away.without(ClaimSkipsLeased)
		if !o.Letter.There || o.Letter.Held && !me.Ordered || o.Letter.Expired || !free {
			n.step(p, d, "finds nothing that is due", well, end)
			return
		}
		n.call(p, d, "claims the letter", func(s *State) {
			if me.Ordered {
				s.D[d].ordered()
			}
			s.D[d].Letter.claim(by, away)
		}, func(s *State) {
			o := &s.D[d]
			s.P[p].Took = true
			switch {
			case o.Note && !away.without(ClaimSeesNotes):
				settles(s, isGivenUp)
			case o.Expired && !away.without(ExpiredNeverBegins):
				settles(s, isExpired)
			case o.Letter.Died:
				s.P[p].At = atBegun
			default:
				s.P[p].At = atGate
			}
		}, func(s *State, _ bool) { end(s) })
	case atBegun:
		held := false
		n.call(p, d, "notes that its replay begins", func(s *State) {
			if held = s.D[d].Letter.Lease.held(by); held {
				s.D[d].Letter.Begun = by
			}
		}, func(s *State) {
			s.P[p].At = atGate
			if !held {
				s.P[p].At = atRelease
			}
		}, func(s *State, _ bool) { releases(s) })
	case atGate:
		n.ask(p, d, func(s *State) {
			s.P[p].At = atAttempt
			if away.without(SettleAfterSend) {
				s.D[d].remove(n.m.Journal)
			}
		}, releases)
	case atAttempt:
		n.begins(p, d, away.without(LeaseOutlivesReplay), releases, func(s *State) { settles(s, isExpired) })
	case atAnswered:
		n.answers(p, d, func(s *State) { settles(s, isDelivered) }, func(s *State) {
			f := isFailed
			if s.P[p].Refused || n.m.Park && s.P[p].Unanswered && !away.without(AmbiguousWaits) {
				f = isHeld
			}
			settles(s, f)
		})
	case atNote:
		event := toldDelivered
		if me.Fate == isExpired {
			event = toldExpired
		}
		settle := func(s *State) { s.P[p].At = atSettle }
		n.call(p, d, "tells the record: "+event, func(s *State) {
			s.D[d].Record.move(move{event: event}, away)
		}, settle, func(s *State, made bool) {
			if !made && me.Fate == isDelivered {
				s.D[d].cause()
				s.D[d].Blind = true
			}
			settle(s)
		})
	case atStrike:
		n.strike(p, func(s *State) { s.P[p].At = atSettle }, releases)
	case atSettle:
		n.call(p, d, "settles the letter: "+fateWords[me.Fate], func(s *State) {
			s.settle(p, n.m)
		}, func(s *State) {
			if away.without(RecordBeforeSettle) && me.Fate == isDelivered {
				s.P[p].At, s.P[p].Receipt = atFinish, false
				return
			}
			end(s)
		}, func(s *State, made bool) {
			if !made && me.Receipt {
				s.D[d].cause()
			}
			end(s)
		})
	case atFinish: // where the record is told after the settlement
		n.step(p, d, "tells the record: "+toldDelivered, well, func(s *State) {
			s.D[d].Record.move(move{event: toldDelivered}, away)
			end(s)
		})
	case atRelease:
		n.call(p, d, "gives the lease back", func(s *State) { s.D[d].release(by) }, end, func(s *State, _ bool) { end(s) })
	}
}

// settle is settle.lua with one settlement, of process p.
func (s *State) settle(p int, m *Model) {
	me := &s.P[p]
	s.D[me.D].settle(token(p+1), me.Fate, me.Unanswered, m.Journal, m.Away)
}

// settle reports whether the token has the lease; then the letter is as the fate says.
func (d *Delivery) settle(by token, f fate, unanswered, journal bool, away Rules) bool {
	if !d.Letter.There || !d.Letter.Lease.of(by) && !away.without(SettleFenced) {
		return false
	}
	l := &d.Letter
	if l.Unanswered && f == isDiscarded { // the record is told after that, and whoever comes in between begins anew
		d.cause()
	}
	switch f {
	case isDelivered, isGivenUp, isDiscarded:
		// A record that a cancellation has marked that did not end learns nothing of it.
		d.Forgot = d.Forgot || d.Record.Status == canceled && l.Unanswered
		d.remove(journal)
		return true
	case isExpired:
		l.Expired = true
	case isHeld:
		l.Held = true
	case isFailed:
		if away.without(FailedStays) {
			d.remove(journal)
			return true
		}
	case noFate, isKept, isAccepted:
	}
	l.Lease, l.Died, l.Begun = Lease{}, false, 0
	l.Unanswered = l.Unanswered || unanswered
	return true
}

// release is release.lua.
func (d *Delivery) release(by token) {
	if d.Letter.Lease.of(by) {
		d.Letter.Lease = Lease{}
	}
}

// strike takes a letter that is given up out of the journal, before it leaves the queue. Where that
// fails the letter stays in both: the queue notes that the journal may lack it.
func (n *next) strike(p int, done, failed func(*State)) {
	d := n.from.P[p].D
	forget := func(s *State) { s.D[d].takeBack(s.D[d].Letter.Address) }
	n.step(p, d, "takes the letter out of the journal", well, func(s *State) { forget(s); done(s) })
	if n.from.Left.Faults > 0 {
		give := failed
		if n.m.Away.without(OrderLeavesJournal) {
			give = done
		}
		for _, how := range []string{silent, away} {
			n.step(p, d, "takes the letter out of the journal", how, func(s *State) {
				s.Left.Faults--
				if how == silent {
					forget(s)
				}
				s.D[d].Unjournaled = s.D[d].Letter.There
				give(s)
			})
		}
	}
}
