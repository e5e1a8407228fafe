// Command dlq-api answers the operator's HTTP API.
package main

import (
	"backstop/bundle"

	_ "example.org/team/bundle/kinds"
)

func main() { bundle.DLQAPI() }
