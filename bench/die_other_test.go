//go:build !linux

package bench

import "syscall"

// dieWithParent does nothing where the system offers no parent-death signal.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
