package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// addBin adds the flag that names the functions' binaries.
func addBin(c *cobra.Command) *string {
	return c.Flags().String("bin", "build/local", "folder with send/bootstrap, replay/bootstrap and dlq-api/bootstrap, built for this machine")
}

// checkBin fails early, and says what to do, when the binaries are not there.
func checkBin(dir string) error {
	for _, f := range []string{"send", "replay", "dlq-api"} {
		if _, err := os.Stat(filepath.Join(dir, f, "bootstrap")); err != nil {
			return fmt.Errorf("%w: build the functions for this machine first (make demo and make dev do), or name their folder with --bin", err)
		}
	}
	return nil
}
