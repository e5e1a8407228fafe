package dlq_test

import (
	"testing"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

func TestIDs(t *testing.T) {
	for in, want := range map[string]dlq.ID{
		"mail~1700000000000-0":           {Sink: "mail", Native: "1700000000000-0"},
		"a.b-c_d~1-18446744073709551615": {Sink: "a.b-c_d", Native: "1-18446744073709551615"},
		"0-1":                            {Native: "0-1"},
		"18446744073709551615-18446744073709551615": {Native: "18446744073709551615-18446744073709551615"},
	} {
		got, err := dlq.ParseID(in)
		if err != nil || got != want {
			t.Errorf("ParseID(%q) = %+v, %v; want %+v", in, got, err, want)
		}
		if want.Sink != "" && got.String() != in {
			t.Errorf("%+v prints as %q, want %q", got, got, in)
		}
	}
	for _, in := range []string{
		"", "~", "~1-1", "mail~", "mail", "mail~1", "mail~1-", "mail~01-1", "mail~1-1-1", "mail~a-b", "Mail~1-1", "a{b}~1-1",
		"18446744073709551616-0", "mail~mail~1-1", " 1-1", "1-1\n", "-1-1",
	} {
		if got, err := dlq.ParseID(in); fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("ParseID(%q) = %+v, %v; want INVALID_ARGUMENT", in, got, err)
		}
	}
}

func TestNativeIDsOrderByNumber(t *testing.T) {
	order := []string{"0-0", "0-1", "0-9", "0-10", "9-0", "10-0", "1700000000000-0", "1700000000000-2", "1700000000000-10"}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := dlq.CompareNative(a, b); got != want {
				t.Errorf("CompareNative(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
	}
}
