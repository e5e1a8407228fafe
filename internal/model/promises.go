package model

// judge holds a state against what must be true in each. What must be true of steps is looked at where they
// are made: attempts where they begin, returns where they are stored.
func (s *State) judge(m *Model) {
	rest := true
	for _, p := range s.P {
		rest = rest && p.Role == idle
	}
	for i := range s.D[:m.Deliveries] {
		d := &s.D[i]
		safe := d.Received > 0 || d.isKept() || d.ToldCanceled || d.ToldDiscarded || d.Doubtful || d.Lost || s.ending(uint8(i), -1)
		switch {
		case s.Broken != Kept:
		case d.ToldDelivered && d.Received == 0:
			s.Broken = DeliveredIsTrue
		case d.ToldKept && !safe:
			s.Broken = KeptIsTrue
		case d.ToldAccepted && !safe && d.Messages == [mostMessages]uint8{}:
			s.Broken = AcceptedIsTrue
		case d.ToldSure && d.Received > 0 && !d.Blind && !d.Forgot:
			s.Broken = CanceledIsTrue
		case rest && d.Letter.There && d.Letter.Lease.By == 0 && (d.Record.Status == delivered || d.Record.Status == canceled) && !d.Loose && !d.Doubtful:
			s.Broken = NothingStays
		case int(d.Received) > 1+int(d.Causes):
			s.Broken = DoublesHaveCauses
		}
	}
}

// attempt begins one of process p.
func (s *State) attempt(p int) {
	me := &s.P[p]
	d := &s.D[me.D]
	switch {
	case d.ToldCanceled && !me.Blind && !d.Blind:
		s.Broken = NothingAfterCancel
	case d.Expired:
		s.Broken = NothingAfterExpiry
	case me.Waited:
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
