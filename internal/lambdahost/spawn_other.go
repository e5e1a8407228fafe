//go:build !unix

package lambdahost

import (
	"os"
	"syscall"
)

func procAttr() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { _ = p.Kill() }

func terminate(p *os.Process) error { return p.Kill() }
