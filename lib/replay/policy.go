package replay

import "backstop/lib/replay/policy"

// Policy says how the dead letters of a sink are replayed.
type Policy = policy.Policy

// OnSuccess says what becomes of a dead letter that a replay delivered.
type OnSuccess = policy.OnSuccess

// The choices.
const (
	OnSuccessDiscard = policy.OnSuccessDiscard // it is removed
	OnSuccessKeep    = policy.OnSuccessKeep    // it is marked delivered and stays
)
