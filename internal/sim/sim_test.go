package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

var (
	flagSeed  = flag.Uint64("sim.seed", 0, "the first seed; 0 is 1")
	flagSeeds = flag.Int("sim.seeds", 0, "play so many seeds, in as many processes as there are processors")
	flagDay   = flag.Bool("sim.day", false, "play a day with hundreds of processes instead of the better part of an hour")
	flagTrace = flag.String("sim.trace", "", "write the trace of the first seed to this file")
	flagChild = flag.Bool("sim.child", false, "this process plays for another one")
)

// One goroutine at a time: then the order of those that are ready is the same in each run.
func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// played is what became of a seed.
type played struct {
	Seed    uint64
	Hash    string
	Account account
	Faults  []string
	trace   []string
}

// play plays a seed with a planted fault; empty: with none.
func play(t *testing.T, seed uint64, s size, plant string) (p played) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed, s, plant)
		a := w.run(t)
		p = played{seed, fmt.Sprintf("%016x", w.hash()), a, w.faults, w.trace}
	})
	return p
}

// chosen is the size that the flags ask for.
func chosen() size {
	s := small
	if *flagDay {
		s = day
	}
	s.keep = !*flagChild // who repeats a seed wants its history
	return s
}

// TestSim plays seeds: a handful by default. Each fails with how to repeat it.
func TestSim(t *testing.T) {
	first := max(*flagSeed, 1)
	switch {
	case *flagChild:
		for seed := first; seed < first+uint64(*flagSeeds); seed++ { //nolint:gosec // not negative
			say(os.Stdout, "%sbegins %d", mark, seed)
			b, err := json.Marshal(play(t, seed, chosen(), ""))
			if err != nil {
				t.Fatal(err)
			}
			say(os.Stdout, "%s%s", mark, b)
		}
	case *flagSeeds > 1:
		inProcesses(t, first, *flagSeeds)
	default:
		n := uint64(8)
		if *flagSeed > 0 || *flagSeeds == 1 {
			n = 1
		}
		var sum account
		for seed := first; seed < first+n; seed++ {
			p := play(t, seed, chosen(), "")
			sum.add(p.Account)
			t.Logf("seed %d: trace %s", seed, p.Hash)
			for _, f := range p.Faults {
				t.Errorf("seed %d: %s\nrepeat: %s", seed, f, repeat(seed, *flagDay))
			}
			if *flagTrace != "" && seed == first {
				if err := os.WriteFile(*flagTrace, []byte(strings.Join(p.trace, "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Log(sum)
	}
}

// repeat is how to play a seed again.
func repeat(seed any, day bool) string {
	if day {
		return fmt.Sprintf("make sim SEED=%v DAY=1", seed)
	}
	return fmt.Sprintf("make sim SEED=%v", seed)
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // to a terminal

// mark begins a line that one process tells another.
const mark = "sim: "

// chunk is how many seeds a process plays. A day is played beside so many seeds or more.
const (
	chunk   = 20
	withDay = 200
)

// inProcesses plays seeds in processes of their own, and sums up.
func inProcesses(t *testing.T, first uint64, n int) {
	t.Helper()
	starts := make(chan int)
	var mu sync.Mutex
	var sum, long account
	var workers sync.WaitGroup
	if n >= withDay && !*flagDay {
		workers.Go(func() {
			for _, p := range inProcess(t, first, 1, true) {
				long = p.Account
				p.judge(t, true)
			}
		})
	}
	for range runtime.NumCPU() {
		workers.Go(func() {
			for at := range starts {
				for _, p := range inProcess(t, first+uint64(at), min(chunk, n-at), *flagDay) { //nolint:gosec // not negative
					mu.Lock()
					sum.add(p.Account)
					mu.Unlock()
					p.judge(t, *flagDay)
				}
			}
		})
	}
	for at := 0; at < n; at += chunk {
		starts <- at
	}
	close(starts)
	workers.Wait()
	if sum.Seeds != n {
		t.Errorf("%d of %d seeds were played to their end", sum.Seeds, n)
	}
	if testing.Verbose() {
		say(os.Stdout, "\nsim: %s\nsim: why some arrived twice: %s", sum, sum.causes())
		if long.Seeds > 0 {
			say(os.Stdout, "sim: a day: %s", long)
		}
	}
}

// judge fails with how to repeat a seed in which something broke.
func (p played) judge(t *testing.T, day bool) {
	t.Helper()
	if len(p.Faults) > 0 {
		what, _, _ := strings.Cut(p.Faults[0], "\n")
		t.Errorf("FAILED seed %d: %s; repeat: %s", p.Seed, what, repeat(p.Seed, day))
	}
}

// inProcess plays seeds in one other process.
func inProcess(t *testing.T, first uint64, n int, day bool) (all []played) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Error(err)
		return nil
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestSim$", "-sim.child", //nolint:gosec // it is this program
		fmt.Sprint("-sim.seed=", first), fmt.Sprint("-sim.seeds=", n), fmt.Sprint("-sim.day=", day))
	out, err := cmd.CombinedOutput()
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, len(out)+1)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), mark)
		if !ok {
			continue
		}
		if begins, ok := strings.CutPrefix(text, "begins "); ok {
			last = begins
			continue
		}
		var p played
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Error(err)
		}
		all = append(all, p)
	}
	if err != nil {
		t.Errorf("FAILED seed %s: %v; repeat: %s\n%.4000s", last, err, repeat(last, day), out[bytes.LastIndex(out, []byte(mark))+1:])
	}
	return all
}

// The same seed is the same run, in this process and in another one.
func TestASeedRepeats(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 7, 11} { // the last two have a journal
		one, two := play(t, seed, small, ""), play(t, seed, small, "")
		if one.Hash != two.Hash {
			t.Errorf("seed %d: trace %s, and then %s%s", seed, one.Hash, two.Hash, difference(one.trace, two.trace))
		}
		other := inProcess(t, seed, 1, false)
		if len(other) != 1 || other[0].Hash != one.Hash {
			t.Errorf("seed %d: trace %s, in another process %+v", seed, one.Hash, other)
		}
	}
	if play(t, 1, small, "").Hash == play(t, 2, small, "").Hash {
		t.Error("two seeds are the same run")
	}
}

// difference is where two traces part.
func difference(one, two []string) string {
	for i := range one {
		if i >= len(two) || one[i] != two[i] {
			from := max(0, i-3)
			return fmt.Sprintf(" from line %d on:\n%s\n---\n%s", i, strings.Join(one[from:min(i+3, len(one))], "\n"), strings.Join(two[min(from, len(two)):min(i+3, len(two))], "\n"))
		}
	}
	return fmt.Sprintf(", which has %d lines more", len(two)-len(one))
}

// What a fault must be found within, in seeds.
const soon = 60

// A check that cannot fail proves nothing: each of these faults is found.
func TestEveryPlantedFaultIsFound(t *testing.T) {
	for _, plant := range []string{
		"acknowledged before the push", "an answer that never came", "canceled while it is sent", "canceled without a look at dead letters", "leases that end early",
		"messages deleted when they are received", "records that are not written", "replays forget the cancellation", "replays forget the expiry",
		"settled without a token", "slots for everybody", "the gate is not asked",
	} {
		t.Run(plant, func(t *testing.T) {
			for seed := uint64(1); seed <= soon; seed++ {
				if p := play(t, seed, small, plant); len(p.Faults) > 0 {
					what, _, _ := strings.Cut(p.Faults[0], "\n")
					t.Logf("seed %d: %s", seed, what)
					return
				}
			}
			t.Errorf("not found in %d seeds", soon)
		})
	}
}
