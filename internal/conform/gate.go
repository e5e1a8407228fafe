package conform

import (
	"math"
	"slices"
)

// swap is the one step by which processes change what they know together of a receiver: from what they believe, or not at all.
func (c *Checker) swap(k call) {
	c.counts["gate"]++
	name, was, next := k.keys[0]+" "+k.arg(1), k.arg(2), k.arg(3)
	may := c.gates[name]
	if len(may) == 0 {
		may = []string{""}
	}
	if !k.known() {
		if slices.Contains(may, was) && !slices.Contains(may, next) {
			may = append(may, next)
		}
		c.gates[name] = may
		return
	}
	answer := listOf(k.reply)
	if len(answer) != 3 {
		c.stray("flow/swap.lua: %v", k.reply)
		return
	}
	what, now, current := numberOf(answer[0]), numberOf(answer[1]), textOf(answer[2])
	off := math.Abs(float64(now-k.number(4))) > float64(k.number(5))
	fits := func(have string) bool {
		switch what {
		case 0:
			return current == have && have != next && (have != was || off)
		case 1:
			return current == next && (have == next || have == was && !off)
		}
		return have == "" && next != "" && what == 2
	}
	if !slices.ContainsFunc(may, fits) {
		c.stray("the gate of %q goes from %q to %q, believing %q: answered with %d and %q", name, may, next, was, what, current)
	}
	if what != 2 {
		c.gates[name] = []string{current}
	}
}
