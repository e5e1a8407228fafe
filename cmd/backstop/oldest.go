package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// importedLine is a line of a file to import.
type importedLine struct {
	number  int // in the file, from 1
	offset  int64
	size    int
	ms, seq uint64 // when it became a dead letter, as far as the line tells
}

// oldestFirst returns the lines of a file that are not empty, oldest dead letter first: an
// export is newest first, and the queue replays in the order in which it stores.
func oldestFirst(in io.Reader) ([]importedLine, error) {
	var lines []importedLine
	r := bufio.NewReaderSize(in, 1<<16)
	offset := int64(0)
	for n, ended := 1, false; !ended; n++ {
		text, err := r.ReadBytes('\n')
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return nil, err
		}
		if len(bytes.TrimSpace(text)) > 0 {
			l := importedLine{number: n, offset: offset, size: len(text)}
			l.ms, l.seq = place(text)
			lines = append(lines, l)
		}
		offset += int64(len(text))
	}
	slices.SortStableFunc(lines, func(a, b importedLine) int {
		return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.seq, b.seq))
	})
	return lines, nil
}

// place reads a dead letter's place in its queue: from its id, else from its time. A line that
// cannot be read comes first; the API says what is wrong with it.
func place(line []byte) (ms, seq uint64) {
	var it struct {
		ID string    `json:"id"`
		At time.Time `json:"at"`
	}
	if json.Unmarshal(line, &it) != nil {
		return 0, 0
	}
	_, native, _ := strings.Cut(it.ID, "~")
	first, second, ok := strings.Cut(native, "-")
	if ms, err := strconv.ParseUint(first, 10, 64); err == nil && ok {
		if seq, err := strconv.ParseUint(second, 10, 64); err == nil {
			return ms, seq
		}
	}
	if it.At.IsZero() {
		return 0, 0
	}
	return uint64(max(it.At.UnixMilli(), 0)), 0
}

// spool copies what can be read only once to a file of its own, which remove deletes.
func spool(in io.Reader) (f *os.File, remove func(), err error) {
	f, err = os.CreateTemp("", "backstop-import-*")
	if err != nil {
		return nil, nil, err
	}
	remove = func() {
		_ = f.Close()
		_ = os.Remove(f.Name()) // what is left is readable by its owner alone
	}
	if _, err = io.Copy(f, in); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return f, remove, nil
}
