package bundle_test

import (
	"backstop/bundle"

	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/webhook"
)

// The main of a function names the kinds of sinks that it can send through, and says which
// function it is. A kind of your own is one more import.
func Example() {
	bundle.Send() // all of func main
}
