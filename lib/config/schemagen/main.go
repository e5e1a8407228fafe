// Command schemagen writes the JSON Schema of the sink configuration, generated from
// the Go types that decode it, to standard output. Run it in the module's root:
//
//	go run ./lib/config/schemagen >config/sinks/schema.json
package main

import (
	"fmt"
	"os"
)

func main() {
	schema, err := generate()
	if err == nil {
		_, err = os.Stdout.Write(schema)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}
