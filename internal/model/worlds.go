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
	{Name: "an outage", Deliveries: 2, Processes: 3, Budget: Budget{Calls: 3, Deaths: 1, Lates: 1, Outages: 1, Holds: 1}},
}
