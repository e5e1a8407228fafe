package localqueue

import (
	"crypto/md5" //nolint:gosec // the protocol's check of transmission
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// What SQS takes.
const (
	maxBytes      = 1 << 20 // of a message, and of a batch: bodies and attributes
	batchEntries  = 10
	maxAttributes = 10 // of a message
	fifoSuffix    = ".fifo"
)

// attribute is the value of a message attribute.
type attribute struct {
	DataType    string
	StringValue *string `json:",omitempty"`
	BinaryValue []byte  `json:",omitempty"`
}

func (a attribute) binary() bool {
	return a.DataType == "Binary" || strings.HasPrefix(a.DataType, "Binary.")
}

// text is what a caller sends.
type text struct {
	body             string
	attributes       map[string]attribute
	systemAttributes map[string]attribute
	delay            *int // seconds; nil: none was asked for
	group, dedup     string
}

// size is what counts toward maxBytes: system attributes do not.
func (t text) size() int {
	n := len(t.body)
	for name, a := range t.attributes {
		n += len(name) + len(a.DataType) + len(a.BinaryValue)
		if a.StringValue != nil {
			n += len(*a.StringValue)
		}
	}
	return n
}

// check refuses what a queue of its type does not take.
func (t text) check(fifo bool) error {
	if t.body == "" {
		return missing("MessageBody")
	}
	if !sendable(t.body) {
		return errContents
	}
	if err := checkAttributes(t.attributes); err != nil {
		return err
	}
	for name, a := range t.systemAttributes {
		if name != traceHeader || a.DataType != "String" || a.StringValue == nil {
			return invalid("Message system attribute '%s' is invalid: only %s is taken, a String.", name, traceHeader)
		}
	}
	if t.size() > maxBytes {
		return invalid("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", maxBytes)
	}
	if t.delay != nil && (*t.delay < 0 || *t.delay > maxDelay) {
		return outOfRange("DelaySeconds", *t.delay, 0, maxDelay)
	}
	for name, value := range map[string]string{"MessageGroupId": t.group, "MessageDeduplicationId": t.dedup} {
		if value != "" && !printable(value) {
			return invalid("Value %s for parameter %s is invalid. Reason: %s can only include alphanumeric and punctuation characters. 1 to 128 in length.", value, name, name)
		}
	}
	return t.checkType(fifo)
}

// checkType is check for what only one of the two types of queue takes.
func (t text) checkType(fifo bool) error {
	switch {
	case fifo && t.group == "":
		return missing("MessageGroupId")
	case fifo && t.dedup == "":
		return invalid("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
	case fifo && t.delay != nil && *t.delay > 0:
		return invalid("Value %d for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.", *t.delay)
	case !fifo && t.dedup != "":
		return invalid("Value %s for parameter MessageDeduplicationId is invalid. Reason: The request includes a parameter that is not valid for this queue type.", t.dedup)
	}
	return nil
}

func checkAttributes(all map[string]attribute) error {
	if len(all) > maxAttributes {
		return invalid("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(all), maxAttributes)
	}
	for name, a := range all {
		lower := strings.ToLower(name)
		kind, _, _ := strings.Cut(a.DataType, ".")
		switch {
		case name == "" || len(name) > 256 || strings.Trim(name, ".") != name || strings.Contains(name, "..") ||
			strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon.") || !made(name, nameBytes):
			return invalid("Invalid attribute name: '%s'.", name)
		case kind != "String" && kind != "Number" && kind != "Binary" || len(a.DataType) > 256:
			return invalid("The type of message (user) attribute '%s' is invalid. You must use only the following supported type prefixes: Binary, Number, String.", name)
		case a.binary() && (len(a.BinaryValue) == 0 || a.StringValue != nil), !a.binary() && (a.StringValue == nil || *a.StringValue == "" || a.BinaryValue != nil):
			return invalid("Message (user) attribute '%s' must contain a non-empty value of type '%s'.", name, a.DataType)
		case a.StringValue != nil && !sendable(*a.StringValue):
			return errContents
		}
	}
	return nil
}

const (
	alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	nameBytes    = alphanumeric + "_-."
	entryIDBytes = alphanumeric + "_-"
)

func made(s, set string) bool { return strings.Trim(s, set) == "" }

// printable reports whether s can be a group's or a deduplication id.
func printable(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// sendable reports whether SQS takes every character of s.
func sendable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
	})
}

func sumOf(body string) string {
	sum := md5.Sum([]byte(body)) //nolint:gosec // the protocol's
	return hex.EncodeToString(sum[:])
}

// attributesSum is SQS' MD5 of attributes: of names, types and values in the order of names,
// each with its length in front. Empty without attributes.
func attributesSum(all map[string]attribute) string {
	if len(all) == 0 {
		return ""
	}
	h := md5.New() //nolint:gosec // the protocol's
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a := all[name]
		add(h, []byte(name))
		add(h, []byte(a.DataType))
		if a.binary() {
			h.Write([]byte{2})
			add(h, a.BinaryValue)
		} else {
			h.Write([]byte{1})
			add(h, []byte(*a.StringValue))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func add(h hash.Hash, b []byte) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) //nolint:gosec // at most maxBytes
	h.Write(b)
}
