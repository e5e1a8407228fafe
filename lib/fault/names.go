package fault

import (
	"fmt"
	"strings"
)

// The forms of names and ids, as errors show them. They are checked by hand: a compiled
// expression for each would be a tenth of a function's start.
const (
	nameForm = `^[a-z0-9][a-z0-9._-]{0,63}$`
	idForm   = `^[A-Za-z0-9_:=+/@-]{1,128}$`
)

// IsName reports whether s has 1 to 64 lower-case letters and digits and, after the
// first, bytes of punctuation.
func IsName(s, punctuation string) bool {
	return s != "" && strings.IndexByte(punctuation, s[0]) < 0 && IsMadeOf(s, 64, lower+digits+punctuation)
}

// IsMadeOf reports whether s has 1 to most bytes, all of them among the ASCII ones of set.
func IsMadeOf(s string, most int, set string) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}

// Sets of bytes for IsMadeOf.
const (
	lower        = "abcdefghijklmnopqrstuvwxyz"
	digits       = "0123456789"
	Alphanumeric = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits
)

// CheckName returns INVALID_ARGUMENT unless name can be a sink's name:
// [a-z0-9][a-z0-9._-]{0,63}. Names become parts of Redis keys and of public ids.
func CheckName(name string) error {
	if !IsName(name, "._-") {
		return &Error{Code: CodeInvalidArgument, Msg: fmt.Sprintf("sink name %.80q does not match %s", name, nameForm)}
	}
	return nil
}

// CheckID returns INVALID_ARGUMENT unless id can be a delivery id:
// [A-Za-z0-9_:=+/@-]{1,128}. Ids become header values and parts of keys; a dot is
// excluded because Standard Webhooks signs "id.timestamp.body".
func CheckID(id string) error {
	if !IsMadeOf(id, 128, Alphanumeric+"_:=+/@-") {
		return &Error{Code: CodeInvalidArgument, Msg: fmt.Sprintf("id %.140q does not match %s", id, idForm)}
	}
	return nil
}
