package model

// Worlds are those that the tests look at in full: each has a part of the protocol, and what may go wrong in it.
var Worlds = []World{
	{Name: "two callers", Deliveries: 1, Processes: 2, Expire: true, Budget: Budget{Calls: 3, Replays: 1, Faults: 2, Deaths: 1, Fulls: 1}},
	{Name: "late senders", Deliveries: 1, Processes: 2, Budget: Budget{Calls: 3, Replays: 1, Faults: 1, Lates: 1, Deaths: 1}},
	{Name: "for later", Deliveries: 1, Processes: 2, Expire: true, Budget: Budget{Calls: 2, Later: 1, Receives: 2, Cancels: 1, Faults: 1, Deaths: 1}},
	{Name: "for later, records lost", Deliveries: 1, Processes: 2, Budget: Budget{Calls: 1, Later: 1, Receives: 2, Cancels: 1, Replays: 1, Faults: 1, Evicts: 1}},
	{Name: "replays", Deliveries: 1, Processes: 3, Expire: true, Budget: Budget{Calls: 1, Replays: 3, Discards: 1, Faults: 1, Deaths: 1, Lates: 1}},
	{Name: "cancellations", Deliveries: 1, Processes: 3, Budget: Budget{Calls: 1, Replays: 2, Cancels: 2, Faults: 1, Lates: 1}},
	{Name: "what may have arrived", Deliveries: 1, Processes: 2, Park: true, Budget: Budget{Calls: 2, Replays: 2, Cancels: 1, Faults: 2, Deaths: 1}},
	{Name: "spilled", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 2, Replays: 1, Keeps: 2, Cancels: 1, Faults: 1, Fulls: 1}},
	{Name: "the journal", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 2, Replays: 2, Keeps: 1, Faults: 1, Deaths: 1}},
	{Name: "wiped", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 1, Replays: 1, Keeps: 2, Discards: 1, Cancels: 1, Faults: 1, Wipes: 1}},
	{Name: "wiped, and a death", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 2, Faults: 1, Deaths: 1, Wipes: 1}},
	{Name: "the journal, records lost", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 1, Replays: 2, Keeps: 2, Deaths: 1, Faults: 1, Evicts: 1}},
	{Name: "others remove letters", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 2, Replays: 1, Keeps: 1, Faults: 1, Trims: 1}},
	{Name: "discards", Deliveries: 1, Processes: 2, Budget: Budget{Calls: 1, Replays: 1, Discards: 1, Cancels: 1, Faults: 1}},
	{Name: "an operator", Deliveries: 1, Processes: 2, Refuses: true, Budget: Budget{Calls: 1, Replays: 1, Orders: 2, Discards: 1, Cancels: 1, Deaths: 1}},
	{Name: "spilled, records lost", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 1, Keeps: 1, Cancels: 1, Fulls: 1, Evicts: 1, Faults: 1}},
	{Name: "late keepers", Deliveries: 1, Processes: 2, Journal: true, Budget: Budget{Calls: 1, Replays: 2, Keeps: 2, Evicts: 1, Lates: 1}},
	{Name: "others remove letters, no journal", Deliveries: 1, Processes: 2, Budget: Budget{Calls: 2, Replays: 1, Cancels: 1, Faults: 1, Trims: 1}},
	{Name: "an outage", Deliveries: 2, Processes: 3, Budget: Budget{Calls: 3, Deaths: 1, Lates: 1, Outages: 1, Holds: 1}},
}

// Larger are worlds that are too large to be looked at in full: seeded histories go through them.
var Larger = []World{
	{
		Name: "everything", Deliveries: 2, Processes: 3, Journal: true, Expire: true,
		Budget: Budget{
			Calls: 4, Later: 2, Receives: 4, Replays: 4, Cancels: 2, Discards: 1, Keeps: 4,
			Faults: 3, Deaths: 2, Lates: 1, Fulls: 1, Wipes: 1, Trims: 1, Evicts: 1, Outages: 1, Holds: 1,
		},
	},
	{
		Name: "everything without a journal", Deliveries: 2, Processes: 3, Expire: true,
		Budget: Budget{Calls: 5, Later: 2, Receives: 5, Replays: 4, Cancels: 3, Discards: 1, Faults: 3, Deaths: 2, Lates: 2, Fulls: 1, Evicts: 1, Outages: 2, Holds: 1},
	},
	{
		Name: "everything, parked", Deliveries: 1, Processes: 3, Journal: true, Park: true, Refuses: true,
		Budget: Budget{Calls: 4, Later: 1, Receives: 4, Replays: 4, Orders: 2, Cancels: 2, Discards: 1, Keeps: 4, Faults: 3, Deaths: 2, Lates: 1, Fulls: 1},
	},
}

// WorldOf returns the world of this name.
func WorldOf(name string) (World, bool) {
	for _, w := range Worlds {
		if w.Name == name {
			return w, true
		}
	}
	return World{}, false
}
