//go:build full

package model

import "testing"

// mostFull bounds what is looked at of a world with one more fault.
const mostFull = 5_000_000

// The same with one fault more, and many more seeds.
func TestEveryHistoryOfSmallWorldsWithMoreFaults(t *testing.T) {
	for _, w := range Worlds {
		t.Run(w.Name, func(t *testing.T) {
			w.Budget.Faults++
			m := Model{World: w}
			f := m.Explore(mostFull)
			if f.Broken != Kept {
				t.Fatalf("%v is broken: %s\n%v", f.Broken, promiseTexts[f.Broken].text, f.Trace)
			}
			t.Logf("%d states, %d deep, all of them: %v", f.States, f.Depth, f.Whole)
		})
	}
}

func TestManySeededHistories(t *testing.T) {
	seeds(t, 500_000)
}
