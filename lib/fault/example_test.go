package fault_test

import (
	"errors"
	"fmt"
	"io"

	"backstop/lib/fault"
)

// A caller branches on the code, however often the error was wrapped, and never on its text.
func ExampleCodeOf() {
	err := fmt.Errorf("order 1042: %w", &fault.Error{Code: fault.CodeDLQOverflow, Msg: `the queue of "pager" is full`})
	switch fault.CodeOf(err) {
	case fault.CodeInvalidArgument, fault.CodeBodyTooLarge:
		fmt.Println("drop the message, it can never be sent:", err)
	default:
		fmt.Println("keep the message, it was stored nowhere:", err)
	}
	fmt.Printf("%q\n", fault.CodeOf(errors.New("an error of somebody else's")))
	// Output:
	// keep the message, it was stored nowhere: order 1042: SINK_DLQ_OVERFLOW: the queue of "pager" is full
	// ""
}

// A sink or store of one's own gives what it met a code, and keeps the cause for errors.Is.
func ExampleError() {
	var err error = &fault.Error{Code: fault.CodeSinkUnavailable, Msg: "pager", Cause: io.ErrUnexpectedEOF}
	fmt.Println(err)
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF))
	// Output:
	// SINK_UNAVAILABLE: pager: unexpected EOF
	// true
}

// A delivery's id is the caller's own: what happened, in a form that never changes.
func ExampleCheckID() {
	for _, id := range []string{"order:1042/shipped", "order 1042", ""} {
		fmt.Printf("%q: %v\n", id, fault.CheckID(id))
	}
	// Output:
	// "order:1042/shipped": <nil>
	// "order 1042": INVALID_ARGUMENT: id "order 1042" does not match ^[A-Za-z0-9_:=+/@-]{1,128}$
	// "": INVALID_ARGUMENT: id "" does not match ^[A-Za-z0-9_:=+/@-]{1,128}$
}
