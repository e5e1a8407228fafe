package flow

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Slots are one interval apart, as many more at once as the burst allows after a pause, and none
// comes after its latest.
func TestSlots(t *testing.T) {
	const s = int64(time.Second / time.Microsecond)
	for name, c := range map[string]struct {
		rate   Rate
		pauses []int64 // before each question
		latest int64   // from each question
		want   []int64 // from the beginning; negative: not taken, to come again then
	}{
		"one each 200 ms":                               {Rate{PerSecond: 5}, []int64{0, 0, 0, 0}, s, []int64{0, s / 5, 2 * s / 5, 3 * s / 5}},
		"a burst of three":                              {Rate{PerSecond: 1, Burst: 3}, []int64{0, 0, 0, 0, 0}, 10 * s, []int64{0, 0, 0, s, 2 * s}},
		"a pause fills the burst":                       {Rate{PerSecond: 1, Burst: 2}, []int64{0, 0, 10 * s, 0, 0}, 10 * s, []int64{0, 0, 10 * s, 10 * s, 11 * s}},
		"none beyond the latest":                        {Rate{PerSecond: 1}, []int64{0, 0, 0, 0, 0}, 2 * s, []int64{0, s, 2 * s, -4 * s, -5 * s}},
		"what was refused is spaced, and takes nothing": {Rate{PerSecond: 1}, []int64{0, 0, 0, s, 0}, s / 2, []int64{0, -2 * s, -3 * s, s, -4 * s}},
	} {
		var m meter
		now, start := int64(1_800_000_000*s), int64(1_800_000_000*s)
		var got []int64
		for _, p := range c.pauses {
			now += p
			g := m.take(Slots{Interval: c.rate.interval(), Tolerance: c.rate.tolerance(), Latest: []int64{now + c.latest}}, now)[0]
			at := g.At - start
			if !g.Taken {
				at = -at
			}
			got = append(got, at)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Beyond a day what is refused is spread over that day.
func TestAHugeBacklogIsSpreadOverADay(t *testing.T) {
	var m meter
	day := furthest.Microseconds()
	for i := range 200_000 {
		g := m.take(Slots{Interval: 1e6, Latest: []int64{0}, Random: 0.25}, 1)[0]
		if g.Taken || g.At > 1+day {
			t.Fatalf("the %dth: %+v, want it refused until within a day", i, g)
		}
	}
	if g := m.take(Slots{Interval: 1e6, Latest: []int64{0}, Random: 0.25}, 1)[0]; g.At != 1+day/4 {
		t.Errorf("at %d, want a random time of the day", g.At)
	}
}

// Both stores hand out the same slots.
func TestStoresHandOutSlots(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			take := func(receiver string, latest ...time.Duration) (got []Granted, now int64) {
				t.Helper()
				now = clock(t, s) * 1000
				q := Slots{Interval: 100_000_000, Tolerance: 100_000_000, Random: 0.5} // one each 100 s, two at once
				for _, d := range latest {
					q.Latest = append(q.Latest, now+d.Microseconds())
				}
				got, err := s.Take(t.Context(), "ops", receiver, q)
				if err != nil {
					t.Fatal(err)
				}
				return got, now
			}
			got, now := take("", time.Hour, time.Hour, time.Hour, 150*time.Second, 150*time.Second)
			if len(got) != 5 {
				t.Fatalf("%d answers", len(got))
			}
			var at []int64
			lossy := name == "redis that loses replies" // which asked twice
			for i, g := range got {
				at = append(at, (g.At-now+50_000_000)/100_000_000)
				if g.Taken != (i < 3) && !lossy {
					t.Errorf("slot %d: %+v", i, g)
				}
			}
			if want := []int64{0, 0, 1, 4, 5}; !slices.Equal(at, want) && !lossy {
				t.Errorf("slots after %v times 100 s, want %v", at, want)
			}
			if other, now := take("https://x.example", time.Hour); !other[0].Taken || other[0].At-now > 5_000_000 && !lossy {
				t.Errorf("of another receiver: %+v, want its first", fmt.Sprint(other))
			}
		})
	}
}
