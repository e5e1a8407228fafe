package dlq

import (
	"fmt"
	"strconv"

	"backstop/lib/fault"
)

func invalid(format string, args ...any) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}

func leasedError(id ID) error {
	return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + id.String() + " is held by a replay"}
}

func notFoundError(id ID) error {
	return &fault.Error{Code: fault.CodeDLQNotFound, Msg: "no dead letter " + id.String()}
}

func overflowError(sink string, limit int) error {
	return &fault.Error{Code: fault.CodeDLQOverflow, Msg: "the dead-letter queue of sink " + sink + " is full (" + strconv.Itoa(limit) + ")"}
}

func unavailable(op string, cause error) error {
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: op, Cause: cause}
}
