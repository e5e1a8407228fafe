package kept_test

import (
	"fmt"

	"backstop/lib/journal/kept"
)

// What an audit found is sound when nothing is lost or damaged.
func Example() {
	a := kept.Audit{Letters: 402, Queued: 400, Spilled: 2}
	fmt.Println(a.Letters-a.Queued-a.Spilled, a.Lost, a.Damaged)
	// Output: 0 0 0
}
