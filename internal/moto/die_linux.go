package moto

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the child end when the test process does, however it ends.
func dieWithParent(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
