// Package strictjson reads the JSON that comes in: what callers, queues and operators
// write. A name counts as it is written, "Sink" is not "sink"; no name may come twice in
// an object, at any depth; and text must be UTF-8, so that nothing is changed in silence.
//
// Stored JSON is read so first, as fast as that is; what other programs stored is read leniently where that fails.
package strictjson

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error is what is wrong with a JSON text, in the words of JSON: it names the field and
// never a Go type, nor a value.
type Error struct {
	// Field is the path of the field, such as "message.body" or "ids[2]". Empty: the
	// text as a whole.
	Field string
	Msg   string
	// Known lists the names that are allowed where an unknown one was found; nil for
	// other faults.
	Known []string
	// Syntax says that the text is no JSON that this package takes, whatever it is read
	// into.
	Syntax bool
}

// Error returns "field: what is wrong".
func (e *Error) Error() string { return e.In("JSON") }

// In is Error, with the text as a whole called what.
func (e *Error) In(what string) string {
	if e.Field != "" {
		what = e.Field
	}
	return what + ": " + e.Msg
}

// Text says what an error of this package found wrong, with the text as a whole called
// what.
func Text(what string, err error) string {
	if fault, ok := errors.AsType[*Error](err); ok {
		return fault.In(what)
	}
	return what + ": not readable as JSON"
}

// Decode reads data, exactly one JSON value, into what into points to. A name that into
// does not have is refused. The error is an *Error.
func Decode(data []byte, into any) error {
	return fault(data, json.Unmarshal(data, into, json.RejectUnknownMembers(true)))
}

// DecodePart is Decode for a text that has more than into wants to know, such as an
// event of the platform: names that into does not have are left out.
func DecodePart(data []byte, into any) error {
	return fault(data, json.Unmarshal(data, into))
}

// Empty reports whether data has nothing but white space.
func Empty(data []byte) bool {
	for _, c := range data {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}

func fault(data []byte, err error) error {
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return syntaxFault(data, syntax)
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		return semanticFault(semantic)
	}
	return &Error{Msg: "not readable"} // the package has no other errors; its texts name Go types
}

func syntaxFault(data []byte, err *jsontext.SyntacticError) *Error {
	at := &Error{Field: path(err.JSONPointer), Syntax: true}
	rest := data[min(max(err.ByteOffset, 0), int64(len(data))):]
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		at.Msg = "given twice"
	case errors.Is(err, jsontext.ErrNonStringName):
		at.Msg = fmt.Sprintf("not JSON at byte %d: a name must be a string", err.ByteOffset)
	case Empty(data):
		at.Msg = "empty; want a JSON object"
	case errors.Is(err, io.ErrUnexpectedEOF):
		at.Field, at.Msg = "", "cut off: the JSON ends too early"
	case !utf8.Valid(firstRune(rest)):
		at.Msg = fmt.Sprintf("not valid UTF-8 at byte %d", err.ByteOffset)
	case strings.HasPrefix(string(rest[:min(2, len(rest))]), `\u`):
		at.Msg = fmt.Sprintf("half of a surrogate pair at byte %d", err.ByteOffset)
	case err.JSONPointer == "" && strings.Contains(err.Error(), "after top-level value"):
		at.Msg = "more follows after the JSON value"
	default:
		at.Field, at.Msg = "", fmt.Sprintf("not JSON at byte %d", err.ByteOffset)
	}
	return at
}

// firstRune returns the bytes of the first character.
func firstRune(b []byte) []byte {
	_, n := utf8.DecodeRune(b)
	return b[:n]
}

func semanticFault(err *json.SemanticError) *Error {
	at := &Error{Field: path(err.JSONPointer)}
	switch want := wanted(err.GoType); {
	case errors.Is(err, json.ErrUnknownName):
		at.Known = names(err.GoType)
		at.Msg = unknown(err.JSONPointer.LastToken(), at.Known)
	case errors.Is(err, strconv.ErrRange):
		at.Msg = "want " + want + " in range"
	case err.JSONKind == '0' && want == wholeNumber:
		at.Msg = "want " + want
	case found[err.JSONKind] != "" && want != aTime:
		at.Msg = "want " + want + ", got " + found[err.JSONKind]
	default:
		at.Msg = "want " + want
	}
	return at
}

func unknown(name string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return "unknown field; write it as " + k
		}
	}
	return "unknown field; known: " + strings.Join(known, ", ")
}

// Bounds of a path as errors show it.
const (
	maxName = 40 // characters
	maxPath = 5  // names
)

// path spells a JSON pointer as callers write paths: message.metadata.x-a, ids[2].
func path(p jsontext.Pointer) string {
	var b strings.Builder
	n := 0
	for token := range p.Tokens() {
		if n++; n > maxPath {
			b.WriteString("...")
			break
		}
		if i, err := strconv.ParseUint(token, 10, 32); err == nil && b.Len() > 0 {
			fmt.Fprintf(&b, "[%d]", i)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(printable(token))
	}
	return b.String()
}

// printable shows a name that a caller may have made up: short, and on one line.
func printable(name string) string {
	runes := []rune(name)
	if len(runes) > maxName {
		runes = append(runes[:maxName-1], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = unicode.ReplacementChar
		}
	}
	return string(runes)
}

// The names of wanted types, as errors say them.
const (
	wholeNumber = "a whole number"
	aTime       = "a time such as 2026-01-31T23:59:00Z"
)

// wanted names a type in the words of JSON.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return aTime
	}
	if t == nil {
		return "another value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return wholeNumber
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return wanted(t.Elem())
	}
	return "another value"
}

var found = map[jsontext.Kind]string{
	'n': "null", 't': "true", 'f': "false", '"': "a string", '0': "a number", '{': "an object", '[': "an array",
}

// names lists the names of a struct's fields as JSON has them, sorted.
func names(t reflect.Type) []string {
	var all []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			all = append(all, names(f.Type)...)
		case !f.IsExported() || name == "-":
		case name == "":
			all = append(all, f.Name)
		default:
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
