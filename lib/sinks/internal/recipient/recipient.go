// Package recipient decodes the recipients of sinks that take one string.
package recipient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"backstop/internal/strictjson"
	"backstop/lib/sinks"
)

// Decode reads {"<field>": "..."} strictly. given is false when raw is empty or
// null. Errors are INVALID_ARGUMENT, terminal, and name what is wrong.
func Decode(raw []byte, field string) (value string, given bool, err error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return "", false, nil
	}
	var object map[string]json.RawMessage
	if err := strictjson.DecodePart(raw, &object); err != nil {
		if fault, ok := errors.AsType[*strictjson.Error](err); ok && fault.Field != "" {
			return "", false, invalid("recipient."+fault.Field, fault.Msg)
		}
		return "", false, invalid("recipient", fmt.Sprintf(`want {%q: "..."}`, field))
	}
	if object == nil {
		return "", false, nil
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if key != field {
			return "", false, invalid(fmt.Sprintf("recipient.%.40s", printable(key)), "unknown field; known: "+field)
		}
	}
	if text, ok := object[field]; ok {
		var s *string
		if err := json.Unmarshal(text, &s); err != nil || s == nil {
			return "", false, invalid("recipient."+field, "want a string")
		}
		value = *s
	}
	return value, true, nil
}

func printable(s string) string {
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
