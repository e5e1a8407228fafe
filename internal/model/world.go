package model

// world adds what happens by itself: requests and runs that begin, leases and times that end, processes that
// die, and stores that lose what they had.
func (n *next) world() {
	s := n.from
	free := false
	for p := range n.m.Processes {
		free = free || s.P[p].Role == idle
	}
	for i := range n.m.Deliveries {
		d := uint8(i)
		if free {
			n.starts(d)
		}
		n.loses(d)
		if n.m.Expire && !s.D[d].Expired {
			n.step(-1, d, "its time is over", well, func(s *State) { s.D[d].Expired = true })
		}
	}
	n.leases()
	for p := range n.m.Processes {
		n.dies(p)
	}
	n.gate()
	if s.Left.Wipes > 0 {
		n.step(-1, 0, "the queue and the records are wiped", well, func(s *State) {
			s.Left.Wipes--
			for i := range s.D {
				s.D[i].Doubtful = s.D[i].Doubtful || s.ending(uint8(i), -1)
				s.D[i].wipe()
			}
			for _, p := range s.P {
				if p.Role != idle && (p.Fate == isKept || p.Fate == isExpired) && p.Stored && (p.Failed || !p.Opened) {
					s.D[p.D].Lost = true // it is about to note that the journal lacks it
				}
			}
			s.Gate, s.Keeper = Gate{Wait: s.Gate.Wait, Ill: false}, Lease{}
		})
	}
}

// starts begins processes.
func (n *next) starts(d uint8) {
	left := n.from.Left
	start := func(what string, spend func(*Budget), v Process) {
		n.step(-1, d, what, well, func(s *State) {
			spend(&s.Left)
			s.begin(v)
		})
	}
	if left.Calls > 0 {
		start("a caller asks for it", func(b *Budget) { b.Calls-- }, Process{Role: sender, D: d})
		if left.Later > 0 {
			start("a caller asks for it, for later", func(b *Budget) { b.Calls--; b.Later-- }, Process{Role: sender, D: d, Later: true})
		}
	}
	for i, m := range n.from.D[d].Messages {
		if m == waits && left.Receives > 0 {
			n.step(-1, d, "the queue hands its message out", well, func(s *State) {
				s.Left.Receives--
				s.D[d].Messages[i] = out
				if n.m.Away.without(AckAfterSafe) {
					s.D[d].Messages[i] = no
				}
				s.begin(Process{Role: receiverOfQueue, D: d, Message: uint8(i)})
			})
			break
		}
	}
	if left.Replays > 0 && n.from.D[d].Letter.There {
		start("a replay begins", func(b *Budget) { b.Replays-- }, Process{Role: replayer, D: d, At: atClaim})
	}
	if o := n.from.D[d].Letter; left.Orders > 0 && o.There && o.Held {
		start("an operator has it replayed", func(b *Budget) { b.Orders-- }, Process{Role: replayer, D: d, At: atClaim, Ordered: true})
		if !o.Lease.runs() {
			n.step(-1, d, "an operator unparks it", well, func(s *State) {
				s.Left.Orders--
				s.D[d].ordered()
				s.D[d].Letter.unpark(n.m.Away)
			})
		}
	}
	if left.Cancels > 0 {
		first := atMark
		if n.m.Away.without(CancelMarksFirst) {
			first = atTake
		}
		start("a caller cancels it", func(b *Budget) { b.Cancels-- }, Process{Role: canceler, D: d, At: first})
	}
	if left.Discards > 0 && n.from.D[d].Letter.There {
		start("an operator gives it up", func(b *Budget) { b.Discards-- }, Process{Role: discarder, D: d, At: atTake})
	}
	if left.Keeps > 0 && n.m.Journal {
		start("the journal's tick begins", func(b *Budget) { b.Keeps-- }, Process{Role: keeper, D: d, At: atLease})
	}
}

// loses is what others, and caches, do to what is stored.
func (n *next) loses(d uint8) {
	o := &n.from.D[d]
	if n.from.Left.Trims > 0 && o.Letter.There {
		n.step(-1, d, "others remove its letter", well, func(s *State) {
			s.Left.Trims--
			o := &s.D[d]
			o.Forgot = o.Forgot || o.Letter.Unanswered && !o.Record.Unanswered // what replays had no answer to, the letter alone knows
			if o.Letter.Lease.By != 0 {                                        // a cancellation cannot see that a replay has it
				o.Loose, o.Blind = true, true
			}
			o.Causes = min(o.Causes+1, plenty) // whoever replays it cannot settle it, and the journal may bring it back
			kept := o.ToldKept || o.ToldAccepted && o.Messages == [mostMessages]uint8{}
			for _, p := range s.P {
				kept = kept || p.Role != idle && p.D == d && (p.Fate == isKept || p.Fate == isExpired)
			}
			o.Letter, o.Unjournaled = Letter{}, false
			o.Lost = o.Lost || kept
		})
	}
	if n.from.Left.Evicts > 0 && o.Record.Status != none {
		n.step(-1, d, "its record is lost", well, func(s *State) {
			s.Left.Evicts--
			s.D[d].evict(s.ending(d, -1))
		})
	}
}

// evict is a cache that forgets the record; ending: somebody is at ending the delivery.
func (d *Delivery) evict(ending bool) {
	// What send has put into the queue has notes; what is being sent has a lease that is lost, too.
	d.Forgot = d.Forgot || d.Record.Unanswered
	guarded := d.Record.Status == accepting || d.Record.Status == accepted || d.Record.Status == canceled
	d.Blind = d.Blind || !guarded || d.Messages == [mostMessages]uint8{}
	d.Record = Record{}
	// A mark that is lost between the steps of its cancellation: see docs/guarantees.md, P7.
	if ending {
		d.Doubtful, d.Blind = true, true
	}
	d.Evicted, d.Unremembered = true, true
}

// leases end. Under a living process that is a fault, of which it knows by its own clock.
func (n *next) leases() {
	living := func(by token) bool { return by != gone }
	for i := range n.m.Deliveries {
		d := uint8(i)
		o := &n.from.D[i]
		if o.Record.open() && !o.Record.Over && o.Record.Token != 0 && (!living(o.Record.Token) || n.from.Left.Lates > 0) {
			n.step(-1, d, "the record's lease ends", well, func(s *State) { s.D[d].Record.Over = true; s.late(o.Record.Token, d) })
		}
		if o.Letter.Lease.runs() && !n.hurries(d) && (!living(o.Letter.Lease.By) || n.from.Left.Lates > 0) {
			n.step(-1, d, "the letter's lease ends", well, func(s *State) { s.D[d].Letter.Lease.Over = true; s.late(o.Letter.Lease.By, d) })
		}
		for m, state := range o.Messages {
			if state == out && n.from.Left.Lates > 0 {
				n.step(-1, d, "the queue hands its message out again", well, func(s *State) {
					s.Left.Lates--
					s.D[d].Messages[m] = waits
				})
			}
		}
	}
	if l := n.from.Gate.Slot; l.runs() && (!living(l.By) || n.from.Left.Lates > 0) {
		n.step(-1, 0, "the probe's slot ends", well, func(s *State) {
			s.Gate.Slot.Over = true
			if living(l.By) {
				s.Left.Lates--
				if s.P[l.By-1].Sending { // it is late: what it knows is old
					s.P[l.By-1].Since = false
				}
			}
		})
	}
	if l := n.from.Keeper; l.runs() && (!living(l.By) || n.from.Left.Lates > 0) {
		n.step(-1, 0, "the journal's lease ends", well, func(s *State) {
			s.Keeper.Over = true
			if living(l.By) {
				s.Left.Lates--
			}
		})
	}
}

// hurries reports whether somebody is between two calls of which the second follows within milliseconds, and for whom
// a lease that was running at the first is running at the second: a keeper that tells the record what it brought back, a
// cancellation that is undone, a sender that removes the letter of what it found canceled.
func (n *next) hurries(d uint8) bool {
	for _, p := range n.from.P {
		if p.Role != idle && p.D == d && (p.At == atAskAgain || p.At == atUndoNote || p.At == atUndoMark || p.At == atWithdraw) {
			return true
		}
	}
	return false
}

// late is a lease that ended under a living process: what it sends may be sent by another, too.
func (s *State) late(by token, d uint8) {
	if by == gone {
		return
	}
	s.Left.Lates--
	s.P[by-1].Late = true
	s.D[d].Loose = s.D[d].Loose || s.P[by-1].Role == replayer // another has the letter by then
	s.D[d].Causes = min(s.D[d].Causes+1, plenty)              // if it is the sender's, it still removes what it stored
}

// dies ends a process anywhere.
func (n *next) dies(p int) {
	me := n.from.P[p]
	if me.Role == idle || n.from.Left.Deaths <= 0 {
		return
	}
	die := func(s *State) {
		s.Left.Deaths--
		d := &s.D[me.D]
		d.Loose = true
		if me.Receipt || (me.Role == sender || me.Role == receiverOfQueue) && (me.Pushed || me.Address > 0 && me.Opened) {
			d.cause()
		}
		if me.Role == canceler || me.Role == discarder {
			d.Doubtful = true
		}
		if me.Role == receiverOfQueue && d.Messages[me.Message] == out {
			d.Messages[me.Message] = waits
		}
		s.end(p)
	}
	n.step(p, me.D, "dies", well, die)
	if me.Sending {
		n.step(p, me.D, "dies", "the receiver has it", func(s *State) {
			s.D[me.D].arrive()
			s.D[me.D].cause()
			die(s)
		})
	}
}

// gate is what the receiver does.
func (n *next) gate() {
	if n.from.Left.Outages > 0 && !n.from.Gate.Down {
		n.step(-1, 0, "the receiver is left alone", well, func(s *State) {
			s.Left.Outages--
			s.Gate.Down, s.Gate.Ill, s.Gate.Slot = true, true, Lease{}
			for p := range s.P {
				s.P[p].Since = false
			}
		})
	}
	if n.from.Gate.Wait {
		n.step(-1, 0, "the receiver's hold ends", well, func(s *State) { s.Gate.Wait = false })
	}
}
