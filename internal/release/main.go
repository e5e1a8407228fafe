// Command release makes a release of the repository that it is run in: the functions and the
// CLI as zips with checksums, the changelog cut, a commit and a tag. It pushes nothing.
// `make release` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	dry := flag.Bool("n", false, "build the files, and leave the repository as it is")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: make release VERSION=v1.2.3 [DRY=1]")
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r := &release{
		root: ".", version: flag.Arg(0), dry: *dry, today: time.Now(), out: os.Stdout,
		architectures: allArchitectures, platforms: allPlatforms,
	}
	err := r.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}
