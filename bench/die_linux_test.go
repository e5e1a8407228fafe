package bench

import "syscall"

// dieWithParent makes a child end when the benchmark's process does, however it ends.
func dieWithParent(a *syscall.SysProcAttr, by syscall.Signal) { a.Pdeathsig = by }
