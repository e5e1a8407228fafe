// Command rename sets the module's path, wherever it stands. `make rename
// MODULE=example.org/team/backstop` runs it in the module's root.
//
// The path is often the product's name too, and only the path may change. So it is
// changed where nothing else can stand: in go.mod files, in the linter's rules, and where one
// of the module's folders of Go code follows it, as in an import. That covers imports, names
// of packages in tests and scripts, and what the pages show of both.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rename:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("name the new path: make rename MODULE=example.org/team/backstop")
	}
	from, files, err := rename(".", args[0])
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s is %s now: %d files changed", from, args[0], files)
	if files == 0 {
		text = "the module is " + from + " already"
	}
	_, err = fmt.Fprintln(os.Stdout, text)
	return err
}
