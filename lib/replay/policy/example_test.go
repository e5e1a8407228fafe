package policy_test

import (
	"fmt"
	"time"

	"backstop/lib/replay/policy"
)

// A dead letter whose replays fail comes back later and later, and is parked in the end.
func ExamplePolicy_Delay() {
	p := policy.Policy{BaseDelay: 5 * time.Minute, MaxDelay: time.Hour, MaxReplays: 6}.Normalize()
	middle := func() float64 { return 0.5 } // no jitter; math/rand/v2.Float64 spreads the waits
	for charged := range p.MaxReplays - 1 {
		fmt.Println("after failed replay", charged+1, "wait", p.Delay(charged, middle))
	}
	fmt.Println("after failed replay", p.MaxReplays, "it is parked")
	// Output:
	// after failed replay 1 wait 5m0s
	// after failed replay 2 wait 10m0s
	// after failed replay 3 wait 20m0s
	// after failed replay 4 wait 40m0s
	// after failed replay 5 wait 1h0m0s
	// after failed replay 6 it is parked
}

// Normalize repairs what Validate would name: validate what somebody wrote, with defaults where
// they wrote nothing.
func ExamplePolicy_Validate() {
	p := policy.Policy{}.Normalize()
	p.MaxReplays, p.MaxDelay = 0, time.Second
	fmt.Println(p.Validate())
	// Output:
	// max_replays: want at least 1
	// max_delay: want at least base_delay
}
