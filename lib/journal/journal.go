// Package journal keeps dead letters that are open in a bucket as well, beside a queue that may
// lose what it holds: a cache. What the queue lacks comes back from there.
//
// Start with Open, which gives a Bucket for s3://bucket/prefix or file:/folder, and with NewQueue,
// which puts a journal beside a dlq.Store: it is a dlq.Store again, to be given to a Retrier, a Sender
// and an Engine. A Keeper does what is left to do now and then: a replay.Engine drives it.
//
// The journal holds what is open, not history: the end of a dead letter deletes its line. Objects
// are named, below the bucket's prefix,
//
//	open/<sink>/<x>/<hour>/<nonce>-<n>.ndjson    dead letters that were pushed together
//	spill/<sink>/<x>/<hour>/<nonce>-<n>.ndjson   those that the queue did not take
//	state/<sink>/<x>/<hour>/<nonce>-<n>:<line>   that one of them is parked or held
//
// where n is the number of lines, x one of 16 hex digits that spread them, and the nonce ascends
// in time. A line is the JSON of a dlq.Item with its identity, or null when it is over.
package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"backstop/lib/dlq"
)

// The folders of a bucket.
const (
	openFolder  = "open/"
	spillFolder = "spill/"
	stateFolder = "state/"
)

const extension = ".ndjson"

// MaxLines is the most dead letters in one object: as many as one call pushes.
const MaxLines = 25

// hourLayout is how a name tells its hour, in UTC.
const hourLayout = "2006010215"

// group names what is written together: "<x>/<hour>/<nonce>-<n>". It is the same under open/ and
// spill/. The addresses of its lines are "<group>:<line>", counted from 0.
type group string

// nonces are spelled so that they ascend as their bytes do.
var nonces = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// newGroup names what is to be written now. Where it is one dead letter, the name tells its identity.
func newGroup(now time.Time, letters []*dlq.Letter) group {
	id, err := uuid.NewV7()
	if err != nil {
		_, _ = rand.Read(id[:]) // it does not fail (Go 1.24)
	}
	nonce := nonces.EncodeToString(id[:])
	if len(letters) == 1 {
		nonce += "." + strings.ReplaceAll(letters[0].PushKey, ",", "~") + "." + letters[0].Content
	}
	return group(fmt.Sprintf("%x/%s/%s-%d", id[15]&15, now.UTC().Format(hourLayout), nonce, len(letters)))
}

// groupOf reads the group of an object's name, or of a state's, below open/<sink>/ and the like.
func groupOf(name string) (group, error) {
	g := group(strings.TrimSuffix(name, extension))
	if g.lines() == 0 {
		return "", fmt.Errorf("%.200q is no name of this journal", name)
	}
	return g, nil
}

// lines is how many lines it has; 0 for what is no group.
func (g group) lines() int {
	parts := strings.Split(string(g), "/")
	if len(parts) != 3 || len(parts[0]) != 1 || len(parts[1]) != len(hourLayout) {
		return 0
	}
	i := strings.LastIndexByte(parts[2], '-')
	if i <= 0 {
		return 0
	}
	n, err := strconv.Atoi(parts[2][i+1:])
	if err != nil || n < 1 || n > MaxLines || strconv.Itoa(n) != parts[2][i+1:] {
		return 0
	}
	return n
}

// hour is when it was named, to the hour; zero for what is no time.
func (g group) hour() time.Time {
	parts := strings.Split(string(g), "/")
	if len(parts) != 3 {
		return time.Time{}
	}
	t, err := time.Parse(hourLayout, parts[1])
	if err != nil {
		return time.Time{}
	}
	return t
}

// identity is what the name of one dead letter tells.
func (g group) identity() (dlq.Identity, bool) {
	nonce := string(g[strings.LastIndexByte(string(g), '/')+1:])
	if !strings.HasSuffix(nonce, "-1") {
		return dlq.Identity{}, false
	}
	parts := strings.Split(strings.TrimSuffix(nonce, "-1"), ".")
	if len(parts) != 3 {
		return dlq.Identity{}, false
	}
	return dlq.Identity{PushKey: strings.ReplaceAll(parts[1], "~", ","), Content: parts[2]}, true
}

// address is that of a line.
func (g group) address(line int) string { return string(g) + ":" + strconv.Itoa(line) }

func (g group) open(sink string) string  { return openFolder + sink + "/" + string(g) + extension }
func (g group) spill(sink string) string { return spillFolder + sink + "/" + string(g) + extension }

// stateName is the object that says that a dead letter is parked or held.
func stateName(sink, address string) string {
	g, line := locate(address)
	if g == "" {
		return ""
	}
	return stateFolder + sink + "/" + g.address(line)
}

// locate reads an address; an empty group where it is none.
func locate(address string) (group, int) {
	if native, ok := strings.CutPrefix(address, "@"); ok {
		return nativeGroup(native), 0
	}
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "", 0
	}
	g := group(address[:i])
	line, err := strconv.Atoi(address[i+1:])
	if err != nil || line < 0 || line >= g.lines() || g.address(line) != address {
		return "", 0
	}
	return g, line
}

// nativeGroup is that of a dead letter which was pushed without an address: it is found by its
// native id, "<ms>-<seq>". Empty for what is none.
func nativeGroup(native string) group {
	ms, seq, ok := strings.Cut(native, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if _, bad := strconv.ParseUint(seq, 10, 64); !ok || err != nil || bad != nil || n < 0 {
		return ""
	}
	g := group(fmt.Sprintf("%x/%s/%s-%s-1", n&15, time.UnixMilli(n).UTC().Format(hourLayout), ms, seq))
	if g.lines() != 1 {
		return ""
	}
	return g
}

// line is a dead letter as an object has it.
type line struct {
	dlq.Item
	dlq.Identity
}

// encode returns the body of an object. A letter that is nil is over.
func encode(letters []*dlq.Letter) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, l := range letters {
		var v any
		if l != nil {
			it := l.Item
			it.ID = ""
			v = line{it, l.Identity}
		}
		if err := enc.Encode(v); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// decode reads the body of an object of a sink; a line that is over is nil. Each line is decided
// for itself: bad has what is wrong, by its number. The error is for the whole: it has not as many lines
// as its name says.
func decode(sink string, g group, body []byte) (letters []*dlq.Letter, bad map[int]error, err error) {
	lines := split(body)
	if len(lines) != g.lines() || len(body) == 0 || body[len(body)-1] != '\n' {
		err = fmt.Errorf("it has %d lines, or its end is missing, and its name says %d", len(lines), g.lines())
	}
	letters = make([]*dlq.Letter, g.lines())
	bad = map[int]error{}
	for i := range letters {
		if i >= len(lines) {
			bad[i] = fmt.Errorf("line %d is missing", i)
			continue
		}
		if string(lines[i]) == over {
			continue
		}
		var l line
		if jsonErr := json.Unmarshal(lines[i], &l); jsonErr != nil {
			bad[i] = fmt.Errorf("line %d: %w", i, jsonErr)
			continue
		}
		if l.Sink != sink || l.PushKey == "" || l.Content == "" {
			bad[i] = fmt.Errorf("line %d is no dead letter of sink %q", i, sink)
			continue
		}
		l.Journal = g.address(i)
		letters[i] = &dlq.Letter{Item: l.Item, Identity: l.Identity}
	}
	return letters, bad, err
}

// split returns the lines of a body.
func split(body []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
}

// over is a line whose dead letter is over.
const over = "null"

// strikeLines makes those lines of a body null that gone says yes to, and leaves the others as
// they are, byte by byte. gone is given nil for a line that cannot be read. left is how many lines
// are not over then, struck how many became it now.
func strikeLines(sink string, g group, body []byte, gone func(line int, l *dlq.Letter) bool) (rest []byte, left, struck int) {
	letters, _, _ := decode(sink, g, body) // what is wrong with it stays as it is
	var b bytes.Buffer
	for i, text := range split(body) {
		var l *dlq.Letter
		if i < len(letters) {
			l = letters[i]
		}
		switch {
		case string(text) == over:
		case gone(i, l):
			text = []byte(over)
			struck++
		default:
			left++
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return b.Bytes(), left, struck
}
