package panics_test

import (
	"errors"
	"testing"

	"backstop/internal/panics"
)

func TestAPanicsTextHoldsNoValue(t *testing.T) {
	const secret = "T0K3N"
	var none map[string]int
	for name, tt := range map[string]struct {
		f    func()
		want string
	}{
		"a text":        {func() { panic(secret) }, "string"},
		"an error":      {func() { panic(errors.New(secret)) }, "*errors.errorString"},
		"the runtime's": {func() { none[secret] = 1 }, "assignment to entry in nil map"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := panics.Text(recover()); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}()
			tt.f()
		})
	}
}
