// Package races lets cancellations race against everything that sends a message: its due time,
// its arrival from a queue, a duplicate, a takeover and a replay, with the real functions, a real
// Redis that loses replies, and processes that are killed. Afterwards each race is judged by what
// its receiver saw and what its callers were told. Operators' edits of dead letters race likewise, with
// each other and with replays and cancellations. The tests run some; `make races` runs N.
package races
