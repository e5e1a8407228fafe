package model

import (
	"os"
	"testing"
	"time"
)

func TestQuick(t *testing.T) {
	for _, w := range Worlds {
		if n := os.Getenv("W"); n != "" && n != w.Name {
			continue
		}
		m := Model{World: w}
		st := time.Now()
		f := m.Explore(6_000_000)
		t.Logf("%s: %d states, depth %d, whole %v, broken %v %v", w.Name, f.States, f.Depth, f.Whole, f.Broken, time.Since(st))
		if f.Broken != Kept {
			t.Errorf("%s\n%v", w.Name, f.Trace)
		}
	}
}

func TestPlanted(t *testing.T) {
	for r := range rules {
		st := time.Now()
		found := false
		for _, w := range Worlds {
			m := Model{World: w, Away: Without(r)}
			f := m.Explore(6_000_000)
			if f.Broken != Kept {
				t.Logf("%v: %v in %s, %d states, depth %d %v", r, f.Broken, w.Name, f.States, f.Depth, time.Since(st))
				found = true
				break
			}
		}
		if !found {
			t.Errorf("%v: NOTHING %v", r, time.Since(st))
		}
	}
}
