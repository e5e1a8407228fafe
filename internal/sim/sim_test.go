package sim

import (
	"flag"
	"testing"
	"testing/synctest"
)

var flagSeed = flag.Uint64("sim.seed", 1, "the first seed")

func play(t *testing.T, seed uint64, s size, plant string) (w *world, a account) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, s, plant)
		a = w.run(t)
	})
	return w, a
}

func TestSim(t *testing.T) {
	w, a := play(t, *flagSeed, small, "")
	t.Logf("%x %s", w.sum, a)
	t.Logf("%v", a.Causes)
	for _, f := range w.faults {
		t.Error(f)
	}
}
