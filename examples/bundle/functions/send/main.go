// Command send delivers messages.
package main

import (
	"backstop/bundle"

	_ "example.org/team/bundle/kinds"
)

func main() { bundle.Send() }
