package observe_test

import (
	"fmt"
	"strings"
	"testing"

	"backstop/internal/observe"
)

func TestASampleIsOneInSoManyDeliveriesAndTheSameEverywhere(t *testing.T) {
	const ids = 20_000
	for _, n := range []int{1, 2, 10, 100} {
		s, err := observe.ParseSample(fmt.Sprintf("1/%d", n))
		if err != nil || s.Weight() != n {
			t.Fatalf("1/%d: weight %d, %v", n, s.Weight(), err)
		}
		taken := 0
		for i := range ids {
			if s.Takes(fmt.Sprintf("invoice-%d", i)) {
				taken += s.Weight()
			}
		}
		// The weights add up to what there was: within a tenth, or 30 percent of what is rare.
		if off := max(taken-ids, ids-taken); off > ids/10 && (n < 100 || off > ids*3/10) {
			t.Errorf("1/%d: the lines stand for %d deliveries, want about %d", n, taken, ids)
		}
	}
	// What is taken depends on nothing but the id: another version of the program must answer the same.
	var taken []int
	for i := range 60 {
		if observe.Sample(10).Takes(fmt.Sprintf("invoice-%d", i)) {
			taken = append(taken, i)
		}
	}
	if got, want := fmt.Sprint(taken), "[15 23 41 42 58]"; got != want {
		t.Errorf("1/10 takes %s, want %s", got, want)
	}
}

func TestWithoutASampleEveryLineIsTaken(t *testing.T) {
	all, err := observe.ParseSample("all")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []observe.Sample{0, 1, all} {
		if s.Weight() != 1 || !s.Takes("a") || !s.Takes("b") || !s.Takes("") {
			t.Errorf("%d: weight %d, want every line, for itself", i, s.Weight())
		}
	}
}

func TestOtherSamplesAreRefused(t *testing.T) {
	for _, s := range []string{"", "none", "0", "0.1", "10", "1/0", "1/-2", "1/x", "2/3", "1/1000001", "1/99999999999999999999"} {
		if _, err := observe.ParseSample(s); err == nil || !strings.Contains(err.Error(), "want all, or 1/N") {
			t.Errorf("%q: got %v, want it refused with the choices", s, err)
		}
	}
}
