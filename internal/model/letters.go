package model

func bit(address uint8) uint8 { return 1 << (address - 1) }

// address gives out another one; the last is given out again.
func (d *Delivery) address() uint8 {
	d.Addresses = min(d.Addresses+1, mostAddresses)
	return d.Addresses
}

// write puts an object into the journal. Whoever was at it when its letter was given up does so all the same: the queue
// knows its address as over, until that is deleted or the queue is wiped.
func (d *Delivery) write(folder *uint8, address uint8) {
	*folder |= bit(address)
	d.Given &^= bit(address)
}

// push is push.lua: the content is stored once.
func (d *Delivery) push(address uint8, l Letter, journal bool) {
	if d.Letter.There {
		if journal && address != d.Letter.Address { // its own address is over, the other perhaps without an object
			d.Ended |= bit(address)
			d.Unjournaled = true
		}
		return
	}
	d.Letter = l
	d.Letter.There, d.Letter.Address = true, address
}

// claim is claim.lua, take.lua, overdue.lua and delivery.lua, once it is decided that the letter is leased: whoever had it
// and did not give it back died with it, unless nothing is sent under its lease.
func (l *Letter) claim(by token, o Rules) {
	if !o.without(DeathMayHaveArrived) {
		l.outlived()
	}
	l.Lease = Lease{By: by}
}

// outlived is death.lua: whoever had it is charged, the first one in any case, then who had begun.
func (l *Letter) outlived() {
	if l.Lease.By != 0 && (!l.Died || l.Begun == l.Lease.By) {
		l.Unanswered, l.Died, l.Begun = true, true, 0
	}
}

// unpark is unpark.lua of a letter that nobody leases.
func (l *Letter) unpark(o Rules) {
	if !o.without(UnparkKnowsDeath) {
		l.outlived()
	}
	l.Lease, l.Held = Lease{}, false
}

// remove ends a letter that was settled: its address is over.
func (d *Delivery) remove(journal bool) {
	if journal {
		d.Ended |= bit(d.Letter.Address)
	}
	d.Letter, d.Unjournaled = Letter{}, false
}

// isKept reports whether the queue or the journal has it.
func (d *Delivery) isKept() bool { return d.Letter.There || (d.Open|d.Spill)&^d.Ended != 0 }

// wipe is a queue that loses everything.
func (d *Delivery) wipe() {
	if d.Letter.There && d.Open|d.Spill == 0 && d.Unjournaled {
		d.Lost = true
	}
	d.Record, d.Letter, d.Note, d.Ended, d.Unjournaled = Record{}, Letter{}, false, 0, false
	d.Blind, d.Loose, d.Causes = true, true, plenty
}

// ordered is an operator who has it sent: knowing that it may have arrived, where the letter says so.
func (d *Delivery) ordered() {
	if d.Letter.Unanswered {
		d.Causes = min(d.Causes+1, plenty)
	}
}

// plenty are more causes than doubles can be.
const plenty = 9

// cause is something that went wrong so that the receiver may get it once more, or that its letter stays.
func (d *Delivery) cause() {
	d.Causes = min(d.Causes+1, plenty)
	d.Loose = true
}
