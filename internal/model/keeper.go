package model

// keeper is lib/journal's Keeper with one thing to do under its lease: bring one object's letter back, write
// what the journal lacks, or delete what is over.
func (n *next) keeper(p int) {
	me := n.from.P[p]
	d, by, away := me.D, token(p+1), n.m.Away
	o := &n.from.D[d]
	works := func(s *State) bool { return s.Keeper.held(by) || away.without(OneKeeper) }
	at := func(a place) func(*State) { return func(s *State) { s.P[p].At = a } }
	stops := func(s *State) {
		if s.Keeper.of(by) {
			s.Keeper = Lease{}
		}
		s.end(p)
	}
	dropped := func(s *State, _ bool) { s.end(p) } // its lease runs out by itself

	switch me.At {
	case atLease:
		if n.from.Keeper.runs() && !away.without(OneKeeper) {
			n.step(p, d, "finds another at the journal", well, func(s *State) { s.end(p) })
			return
		}
		n.call(p, d, "takes the journal's lease", func(s *State) { s.Keeper = Lease{By: by} }, at(atRead), dropped)
	case atRead:
		n.step(p, d, "has nothing to do", well, stops)
		if o.Unjournaled && o.Letter.There {
			n.step(p, d, "reads a letter that the journal lacks", well, func(s *State) {
				s.P[p].At, s.P[p].Address = atWrite, o.Letter.Address
			})
		}
		for a := uint8(1); a <= o.Addresses; a++ {
			// What the journal lacks is written before. A push writes its object within seconds.
			if o.Ended&bit(a) != 0 && !o.Unjournaled && !n.from.pushing(d, a) {
				n.step(p, d, "reads an address that is over", well, func(s *State) {
					s.P[p].At, s.P[p].Address = atDelete, a
					if away.without(ObjectBeforeEnded) {
						s.P[p].At = atDeleted
					}
				})
			}
			if (o.Spill|o.Open)&bit(a) != 0 && (!o.Letter.There || o.Letter.Address != a) {
				n.step(p, d, "reads an object whose letter the queue lacks", well, func(s *State) {
					s.P[p].At, s.P[p].Address, s.P[p].Spilled = atAsk, a, o.Spill&bit(a) != 0
					if s.pushing(d, a) { // a restore beside the push: a tick heals older ones only
						s.D[d].cause()
						s.D[d].Blind = true
					}
				})
			}
		}
	case atAsk:
		n.step(p, d, "asks the record", well, func(s *State) {
			s.P[p].At, s.P[p].Asked = atReturn, true
			r := s.D[d].Record.Status
			if !s.D[d].Letter.There && (r == canceled || r == delivered || r == discarded) {
				s.P[p].At = atOver
			}
		})
		if n.from.Left.Faults > 0 {
			n.step(p, d, "asks the record", "it cannot be read", func(s *State) {
				s.Left.Faults--
				s.D[d].cause()
				s.P[p].At = atReturn
			})
		}
	case atReturn:
		const (
			lost = iota
			over
			exists
			stored
		)
		got := lost
		n.call(p, d, "brings the letter back", func(s *State) {
			o := &s.D[d]
			a := me.Address
			switch {
			case !works(s):
				got = lost
			case o.Ended&bit(a) != 0 && !away.without(ReturnSkipsEnded):
				got = over
			case o.Letter.There:
				got = exists
				if o.Letter.Address != a {
					o.push(a, Letter{}, true)
				}
			case o.Note && !away.without(ReturnSkipsCanceled):
				got = over
			default:
				got = stored
				o.Letter = Letter{There: true, Address: a, Held: o.Held&bit(a) != 0, Unanswered: o.Blurred&bit(a) != 0}
				if o.ToldCanceled && o.Note || o.Given&bit(a) != 0 && (o.ToldCanceled || o.ToldDiscarded) {
					s.Broken = OrderIsFinal
				}
				if o.Open&bit(a) == 0 { // a spilled one gets its object first: readSpilled
					o.Open |= bit(a)
				}
			}
		}, func(s *State) {
			switch got {
			case lost:
				s.end(p)
			case over:
				s.P[p].At = atOver
			case exists:
				s.P[p].At = atForgetSpill
			default:
				s.P[p].At = atAskAgain
				if away.without(ReturnAsksAgain) {
					s.P[p].At = atForgetSpill
				}
			}
		}, dropped)
	case atAskAgain: // Engine.noteStored
		n.call(p, d, "tells the record: "+toldDeadLettered, func(s *State) {
			o := &s.D[d]
			o.Record.move(move{event: toldDeadLettered}, away)
			if r := o.Record.Status; (r == delivered || r == canceled) && o.Letter.There {
				if o.Letter.Lease.runs() && me.Asked { // it ended since it was asked
					o.cause()
				} else if o.Letter.Lease.runs() {
					o.Loose = true
				} else {
					o.remove(true)
				}
			}
		}, at(atForgetSpill), func(s *State, made bool) {
			s.D[d].cause()
			s.P[p].At = atForgetSpill
		})
	case atOver:
		n.call(p, d, "notes that its address is over", func(s *State) { s.D[d].Ended |= bit(me.Address) }, at(atForgetSpill), dropped)
	case atForgetSpill:
		n.call(p, d, "removes it from what is spilled", func(s *State) { s.D[d].Spill &^= bit(me.Address) }, stops, dropped)
	case atWrite:
		n.call(p, d, "writes the letter to the journal", func(s *State) { s.D[d].write(&s.D[d].Open, me.Address) }, at(atWritten), dropped)
	case atWritten:
		n.call(p, d, "notes that the journal has it", func(s *State) {
			if works(s) && s.D[d].Letter.Address == me.Address {
				s.D[d].Unjournaled = false
			}
		}, stops, dropped)
	case atDelete:
		n.call(p, d, "deletes the object", func(s *State) { s.D[d].takeBack(me.Address) }, func(s *State) {
			if s.P[p].At = atDeleted; away.without(ObjectBeforeEnded) {
				stops(s)
			}
		}, dropped)
	case atDeleted:
		n.call(p, d, "forgets the address", func(s *State) {
			if works(s) {
				s.D[d].Ended &^= bit(me.Address)
			}
		}, func(s *State) {
			if stops := stops; !away.without(ObjectBeforeEnded) {
				stops(s)
				return
			}
			s.P[p].At = atDelete
		}, dropped)
	}
}

// pushing reports whether somebody is pushing a letter with this address, or taking it back.
func (s *State) pushing(d, address uint8) bool {
	for _, p := range s.P {
		if (p.Role == sender || p.Role == receiverOfQueue) && p.D == d && p.Address == address {
			return true
		}
	}
	return false
}
