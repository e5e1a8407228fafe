package fate_test

import (
	"fmt"

	"backstop/lib/delivery/fate"
)

// A sink whose failures, and nothing else, are told through the sink audit.
func ExampleEvents() {
	failures := fate.Events{To: "audit", On: []fate.Fate{fate.DeadLettered, fate.Parked, fate.Expired}}
	fmt.Println(failures.Tells(fate.DeadLettered), failures.Tells(fate.Delivered))
	fmt.Println(fate.Events{To: "audit"}.Tells(fate.Delivered), fate.Events{}.Tells(fate.Delivered))
	// Output:
	// true false
	// true false
}
