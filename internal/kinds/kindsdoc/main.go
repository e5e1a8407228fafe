// Command kindsdoc writes docs/kinds.md: what is known of each kind of sink.
//
//	go run ./internal/kinds/kindsdoc >docs/kinds.md
package main

import (
	"fmt"
	"os"
)

func main() {
	page, err := generate()
	if err == nil {
		_, err = os.Stdout.WriteString(page)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kindsdoc:", err)
		os.Exit(1)
	}
}
