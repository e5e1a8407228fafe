// Package panics says what panicked. It imports nothing of ours: sinks and those who call
// them catch the panics of other people's code.
package panics

import (
	"fmt"
	"runtime"
)

// Text describes the value of a panic. The value may hold anything, a secret too, so it is
// its type alone; the runtime's own texts hold none.
func Text(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", value)
}
