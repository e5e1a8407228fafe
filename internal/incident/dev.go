package incident

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Dev is a `backstop dev` in a process of its own.
type Dev struct {
	// The URLs that it says, without a slash at the end.
	API, Invoke, Console string

	cmd  *exec.Cmd
	said bytes.Buffer
}

// DevArgs are the arguments of a `backstop dev` on free ports and without a schedule; bin
// holds the functions.
func DevArgs(bin string, more ...string) []string {
	args := []string{"dev", "--bin", bin, "--every", "0"}
	for _, addr := range []string{"api", "invoke", "inbox", "console", "queue"} {
		args = append(args, "--"+addr+"-addr", "127.0.0.1:0")
	}
	return append(args, more...)
}

var saysURL = regexp.MustCompile(`^  (\S.*?)\s{2,}(http://\S+)`)

// StartDev starts a command with DevArgs, and stops it with tb. The context of cmd must
// outlive tb's: a dev that is killed leaves its functions behind.
func StartDev(tb testing.TB, cmd *exec.Cmd) *Dev {
	tb.Helper()
	d, err := startDev(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.close(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Logf("dev said at last:\n%s", d.last())
		}
	})
	return d
}

func startDev(cmd *exec.Cmd) (*Dev, error) {
	d := &Dev{cmd: cmd}
	cmd.Stderr, cmd.WaitDelay = &d.said, 20*time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	urls := map[string]string{}
	for lines := bufio.NewScanner(stdout); len(urls) < 4 && lines.Scan(); {
		if m := saysURL.FindStringSubmatch(lines.Text()); m != nil {
			urls[m[1]] = m[2]
		}
	}
	d.API, d.Invoke, d.Console = urls["HTTP API"], urls["Invoke API"], urls["Console"]
	if d.API == "" || d.Invoke == "" || d.Console == "" {
		return nil, errors.Join(fmt.Errorf("dev says only %v", urls), d.close())
	}
	return d, nil
}

// close stops it as Ctrl-C does. An end without success is an error, with its last log
// lines.
func (d *Dev) close() error {
	err := d.cmd.Process.Signal(os.Interrupt)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err = errors.Join(err, d.cmd.Wait()); err == nil {
		return nil
	}
	return fmt.Errorf("dev: %w\n%s", err, d.last())
}

// last returns the last lines of its log, once it is closed.
func (d *Dev) last() string {
	lines := strings.Split(d.said.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
