package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Written returns the commands in the append-only file of a server started
// WithAppendOnly, oldest first: what it has acknowledged, or as a replica applied. It may
// be running or dead; a command that is being written is left out.
func (s *Server) Written(tb testing.TB) [][]string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*.incr.aof"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 {
		tb.Fatalf("%s has no append-only file in %s", s.Addr, s.Dir)
	}
	var all [][]string
	for _, name := range files {
		commands, err := readCommands(name)
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		all = append(all, commands...)
	}
	return all
}

// readCommands reads arrays of bulk strings (RESP).
func readCommands(name string) ([][]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var all [][]string
	for {
		command, err := readCommand(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, command)
	}
}

func readCommand(r *bufio.Reader) ([]string, error) {
	n, err := readLength(r, '*')
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		size, err := readLength(r, '$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		command[i] = string(b[:size])
	}
	return command, nil
}

func readLength(r *bufio.Reader, kind byte) (n int, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q begins with %q, not %q", line, line[0], kind)
	}
	if _, err := fmt.Sscanf(strings.TrimSpace(line[1:]), "%d", &n); err != nil {
		return 0, fmt.Errorf("length %q: %w", line, err)
	}
	return n, nil
}
