package dlq

import (
	"fmt"
	"strconv"

	"backstop/lib/sinks"
)

func invalid(format string, args ...any) error {
	return &sinks.Error{Code: sinks.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}

func leasedError(id ID) error {
	return &sinks.Error{Code: sinks.CodeItemLeased, Msg: "item " + id.String() + " is held by a replay"}
}

func notFoundError(id ID) error {
	return &sinks.Error{Code: sinks.CodeDLQNotFound, Msg: "no dead letter " + id.String()}
}

func overflowError(sink string, limit int) error {
	return &sinks.Error{Code: sinks.CodeDLQOverflow, Msg: "the dead-letter queue of sink " + sink + " is full (" + strconv.Itoa(limit) + ")"}
}

func unavailable(op string, cause error) error {
	return &sinks.Error{Code: sinks.CodeDLQUnavailable, Msg: op, Cause: cause}
}
