package dlq

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"backstop/lib/fault"
)

// ID is a dead letter's place: its sink and the native id of its stream entry.
//
// The public form "<sink>~<ms>-<seq>" leads to one stream in one step, tells the same
// native id in two sinks apart, and has no character that URL signing re-encodes.
type ID struct {
	Sink   string
	Native string // "<ms>-<seq>"
}

// String returns the public form.
func (id ID) String() string { return id.Sink + "~" + id.Native }

var nativeID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})$`) })

// ParseID reads a public id, or a bare native id, which leaves Sink empty. Anything
// else is INVALID_ARGUMENT.
func ParseID(s string) (ID, error) {
	sink, native, public := strings.Cut(s, "~")
	if !public {
		sink, native = "", s
	} else if err := fault.CheckName(sink); err != nil {
		return ID{}, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("item id %.100q", s), Cause: err}
	}
	if !nativeID().MatchString(native) {
		return ID{}, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("item id %.100q is not <sink>~<ms>-<seq>", s)}
	}
	for part := range strings.SplitSeq(native, "-") {
		if _, err := strconv.ParseUint(part, 10, 64); err != nil {
			return ID{}, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("item id %.100q is out of range", s)}
		}
	}
	return ID{Sink: sink, Native: native}, nil
}

// CompareNative orders two native ids by age, oldest first: negative, zero or
// positive. Both must be well-formed.
func CompareNative(a, b string) int {
	am, as := splitNative(a)
	bm, bs := splitNative(b)
	switch {
	case am != bm && am < bm, am == bm && as < bs:
		return -1
	case am == bm && as == bs:
		return 0
	}
	return 1
}

func splitNative(s string) (ms, seq uint64) {
	m, q, _ := strings.Cut(s, "-")
	ms, _ = strconv.ParseUint(m, 10, 64)
	seq, _ = strconv.ParseUint(q, 10, 64)
	return ms, seq
}
