package model

import (
	"testing"
	"time"
)

func TestQuick(t *testing.T) {
	for _, w := range Worlds {
		m := Model{World: w}
		st := time.Now()
		f := m.Explore(3_000_000)
		t.Logf("%s: %d states, depth %d, whole %v, broken %v %v", w.Name, f.States, f.Depth, f.Whole, f.Broken, time.Since(st))
		if f.Broken != Kept {
			t.Errorf("%s\n%v", w.Name, f.Trace)
		}
	}
}
