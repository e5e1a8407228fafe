// Command replay sends dead letters again.
package main

import (
	"backstop/bundle"

	_ "example.org/team/bundle/kinds"
)

func main() { bundle.Replay() }
