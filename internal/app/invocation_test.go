package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"backstop/lib/fault"
)

// The platform's caller reads a function error, and branches on its type.
func TestAFunctionErrorIsNamedByItsCodeAndHidesWhatIsInternal(t *testing.T) {
	for _, c := range []struct {
		err        error
		name, says string
	}{
		{&fault.Error{Code: fault.CodeSinkNotFound, Msg: "no sink a"}, "SINK_NOT_FOUND", "no sink a"},
		{&fault.Error{Code: fault.CodeInternal, Msg: "secret"}, "INTERNAL", "Internal error"},
		{errors.New("secret"), "INTERNAL", "Internal error"},
	} {
		e, ok := errors.AsType[messages.InvokeResponse_Error](FunctionError(c.err))
		if !ok || e.Type != c.name || !strings.Contains(e.Message, c.says) || strings.Contains(e.Message, "secret") {
			t.Errorf("%v: got %q %q, want %s, %q", c.err, e.Type, e.Message, c.name, c.says)
		}
	}
}
