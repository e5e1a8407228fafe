package sim

import (
	"flag"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
)

var (
	flagSeed  = flag.Uint64("sim.seed", 1, "the first seed")
	flagSeeds = flag.Int("sim.seeds", 1, "so many")
	flagTwice = flag.Bool("sim.twice", false, "")
	flagPlant = flag.String("sim.plant", "", "")
)

func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

func play(t *testing.T, seed uint64, s size, plant string) (w *world, a account) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, s, plant)
		a = w.run(t)
	})
	return w, a
}

func TestSim(t *testing.T) {
	var sum account
	for seed := *flagSeed; seed < *flagSeed+uint64(*flagSeeds); seed++ {
		w, a := play(t, seed, small, *flagPlant)
		sum.add(a)
		for _, f := range w.faults {
			t.Errorf("SEED=%d %s", seed, f)
		}
		if *flagTwice {
			again, _ := play(t, seed, small, *flagPlant)
			if again.sum != w.sum {
				for i := range w.trace {
					if i >= len(again.trace) || w.trace[i] != again.trace[i] {
						t.Errorf("SEED=%d differs at %d:\n%s\n%s", seed, i, w.trace[max(0, i-3):i+2], again.trace[max(0, i-3):i+2])
						break
					}
				}
			}
		}
	}
	t.Logf("%s", sum)
	t.Logf("%v", sum.Causes)
}

func TestTrace(t *testing.T) {
	w, _ := play(t, *flagSeed, small, *flagPlant)
	for _, l := range w.trace {
		println(l)
	}
}
