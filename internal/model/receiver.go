package model

// ask asks the gate whether an attempt may begin.
func (n *next) ask(p int, d uint8, may, refused func(*State)) {
	g := n.from.Gate
	slot := g.Down && !n.m.Away.without(ProbeNeedsSlot)
	let := may
	may = func(s *State) {
		s.P[p].Since, s.P[p].Waited = g.Ill, g.Wait
		let(s)
	}
	switch {
	case g.Wait && !n.m.Away.without(HoldStops), slot && g.Slot.runs():
		n.step(p, d, "is refused by the gate", well, refused)
	case slot:
		n.step(p, d, "takes the slot of the probe", well, func(s *State) {
			s.Gate.Slot, s.P[p].Slot = Lease{By: token(p + 1)}, true
			may(s)
		})
	default:
		n.step(p, d, "asks the gate", well, may)
	}
}

// begins begins an attempt, unless there is no time left for it under the lease, or the message's time is over.
// A hold or an outage that came since the gate was asked does not stop it: whoever was let go goes.
func (n *next) begins(p int, d uint8, unleased bool, late, over func(*State)) {
	me := n.from.P[p]
	stale := me.Slot && !n.from.Gate.Slot.held(token(p+1)) && !n.m.Away.without(SlotOutlivesProbe)
	switch {
	case me.Late && !unleased:
		n.step(p, d, "has no time left for an attempt", well, late)
	case n.from.D[d].Expired && !n.m.Away.without(ExpiredNeverBegins):
		n.step(p, d, "sees that its time is over", well, over)
	case stale:
		n.step(p, d, "has no time left for an attempt under its slot", well, late)
	case n.m.Away.without(AnswerBeforeDelivered) && me.Role != replayer && !n.from.D[d].ToldDelivered:
		n.step(p, d, "tells delivered before it sends", well, func(s *State) { s.D[d].ToldDelivered = true })
	default:
		n.step(p, d, "begins to send", well, func(s *State) {
			s.attempt(p)
			s.P[p].At = atAnswered
		})
	}
}

// answers is what comes of an attempt.
func (n *next) answers(p int, d uint8, ok, failed func(*State)) {
	n.step(p, d, "sends", "the receiver takes it", func(s *State) {
		s.D[d].arrive()
		s.D[d].Answered, s.P[p].Receipt = true, true
		s.ended(p, true, n.m.Away)
		ok(s)
	})
	n.step(p, d, "sends", "the receiver refuses it", func(s *State) {
		s.ended(p, false, n.m.Away)
		failed(s)
	})
	if n.m.Refuses {
		n.step(p, d, "sends", "the receiver refuses it for good", func(s *State) {
			s.ended(p, false, n.m.Away)
			s.P[p].Refused = true
			failed(s)
		})
	}
	if n.from.Left.Holds > 0 {
		n.step(p, d, "sends", "the receiver asks to wait", func(s *State) {
			s.Left.Holds--
			s.ended(p, false, n.m.Away)
			s.Gate.Wait = true
			failed(s)
		})
	}
	if n.from.Left.Faults > 0 {
		n.step(p, d, "sends", "the receiver takes it, and its answer never comes", func(s *State) {
			s.Left.Faults--
			s.D[d].arrive()
			if n.m.Park {
				s.P[p].Receipt = true
			} else {
				s.D[d].cause()
			}
			s.P[p].Unanswered = true
			s.ended(p, false, n.m.Away)
			failed(s)
		})
		n.step(p, d, "sends", "it does not arrive, and no answer comes", func(s *State) {
			s.Left.Faults--
			s.P[p].Unanswered = true
			s.ended(p, false, n.m.Away)
			failed(s)
		})
	}
}

func (d *Delivery) arrive() { d.Received = min(d.Received+1, plenty+2) }

// ended tells the gate what came of an attempt. Only who holds the slot ends an outage.
func (s *State) ended(p int, good bool, away Rules) {
	me := &s.P[p]
	holds := me.Slot && s.Gate.Slot.held(token(p+1))
	if good && s.Gate.Down && (holds || away.without(LateClosesNothing)) {
		s.Gate.Down = false
		s.Gate.Ill = s.Gate.Ill && !holds
	}
	if holds {
		s.Gate.Slot = Lease{}
	}
	me.Sending, me.Slot, me.Since, me.Waited = false, false, false, false
}

// leaveGate gives back a slot that was not used.
func (s *State) leaveGate(p int) {
	if s.P[p].Slot && s.Gate.Slot.of(token(p+1)) {
		s.Gate.Slot = Lease{}
	}
	s.P[p].Slot = false
}
