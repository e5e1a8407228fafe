package model

// judge holds a state against what must be true in each. What must be true of steps is looked at where they
// are made: attempts where they begin, returns where they are stored.
func (s *State) judge(m *Model) {
	rest := true
	for _, p := range s.P {
		rest = rest && p.Role == idle
	}
	for i := range s.D[:m.Deliveries] {
		if s.Broken == Kept {
			s.Broken = s.D[i].broken(rest, s.ending(uint8(i), -1))
		}
	}
}

// broken says which promise is broken of a delivery. Rest: nobody is at work; ending: somebody who was asked to end it is at it.
func (d *Delivery) broken(rest, ending bool) Promise {
	safe := d.Received > 0 || d.isKept() || d.ToldCanceled || d.ToldDiscarded || d.Doubtful || d.Lost || ending
	switch {
	case d.ToldDelivered && d.Received == 0:
		return DeliveredIsTrue
	case d.ToldKept && !safe:
		return KeptIsTrue
	case d.ToldAccepted && !safe && d.Messages == [mostMessages]uint8{}:
		return AcceptedIsTrue
	case d.ToldSure && d.Received > 0 && !d.Blind && !d.Forgot:
		return CanceledIsTrue
	case rest && d.Letter.There && d.Letter.Lease.By == 0 && (d.Record.Status == delivered || d.Record.Status == canceled) && !d.Loose && !d.Doubtful:
		return NothingStays
	case int(d.Received) > 1+int(d.Causes):
		return DoublesHaveCauses
	}
	return Kept
}

// begins says which promise is broken by an attempt that begins now; blind: of somebody who has no record.
func (d *Delivery) begins(blind bool) Promise {
	switch {
	case d.ToldCanceled && !blind && !d.Blind:
		return NothingAfterCancel
	case d.Expired:
		return NothingAfterExpiry
	}
	return Kept
}

// attempt begins one of process p.
func (s *State) attempt(p int) {
	me := &s.P[p]
	d := &s.D[me.D]
	if s.Broken = d.begins(me.Blind); s.Broken == Kept && me.Waited {
		s.Broken = HoldHolds
	}
	for i, other := range s.P {
		if i == p || !other.Sending || other.Late {
			continue
		}
		if other.D == me.D && (other.Role == replayer) == (me.Role == replayer) && !d.Blind {
			s.Broken = OneSender
		}
		if s.Gate.Ill && me.Since && other.Since {
			s.Broken = OneProbe
		}
	}
	me.Sending = true
}

// ending reports whether somebody, but one process, who was asked to end a delivery is at it: then what becomes of it is told soon.
func (s *State) ending(d uint8, but int) bool {
	for i, p := range s.P {
		if i != but && p.D == d && (p.Role == canceler && (p.Marked || p.Took || p.Noted) || p.Role == discarder && p.Took) {
			return true
		}
	}
	return false
}
