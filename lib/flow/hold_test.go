package flow

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backstop/internal/redistest"
)

// What a store makes of the holds is what Hold.apply says, whatever happens in whatever order; also where
// replies are lost and calls made again.
func TestStoresHoldAsTheModelDoes(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			runs := 0
			rapid.Check(t, func(rt *rapid.T) {
				runs++
				sink, model := fmt.Sprint("s", runs), map[string]int64{}
				for range rapid.IntRange(1, 12).Draw(rt, "changes") {
					h := Hold{
						Key:    rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key"),
						Change: rapid.SampledFrom([]HoldChange{HoldSet, HoldProbe, HoldProbe, HoldEnd, HoldBack, HoldLift}).Draw(rt, "change"),
					}
					off := rapid.SampledFrom([]time.Duration{-10 * time.Minute, -time.Minute, -time.Second, time.Minute, time.Minute + 1000, time.Hour}).Draw(rt, "until")
					if h.Change == HoldProbe {
						off = off.Abs()
					}
					h.At = time.Now().Add(off).UnixMicro()
					if rapid.Bool().Draw(rt, "mine") {
						h.Probe = model[h.Key]
					}
					until, now, err := s.Hold(t.Context(), sink, h)
					if err != nil {
						rt.Fatal(err)
					}
					want := h.apply(model[h.Key], now)
					if h.Change == HoldBack && want != model[h.Key] && until <= now && now-until < 1e6 && until%2 == 0 {
						want = until // made again, it is the first call's time
					}
					if until != want {
						rt.Fatalf("%+v on %d at %d: %d, want %d", h, model[h.Key], now, until, want)
					}
					if h.Change == HoldLift {
						clear(model)
					}
					model[h.Key] = until
					seen, err := s.Look(t.Context(), sink)
					if err != nil {
						rt.Fatal(err)
					}
					for key, until := range model {
						if kept := seen.Holds[key]; kept != until && seen.Now*1000-until < aftermath.Microseconds()-1e6 {
							rt.Fatalf("after %+v: %q is seen held until %d, want %d", h, key, kept, until)
						}
					}
				}
			})
		})
	}
}

// A thousand of a sink are kept, those that end last, however many there are; and what has ended goes, by
// itself in the end.
func TestHoldsAreBounded(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			for i := range mostHolds + 200 {
				at := start.Add(time.Hour + time.Duration(i)*time.Second).UnixMicro()
				if until, _, err := s.Hold(t.Context(), "ops", Hold{Key: fmt.Sprint("k", i), Change: HoldSet, At: at}); err != nil || until != at {
					t.Fatal(until, err)
				}
			}
			got := seen(t, s, "ops").Holds
			if len(got) != mostHolds || got["k199"] != 0 || got["k200"] == 0 || got["k1199"] == 0 {
				t.Errorf("%d are kept, k199 until %d, k200 until %d; want those that end last", len(got), got["k199"], got["k200"])
			}
			if _, _, err := s.Hold(t.Context(), "ops", Hold{Change: HoldLift}); err != nil || len(seen(t, s, "ops").Holds) != 0 {
				t.Errorf("%v, lifted: %d are kept", err, len(seen(t, s, "ops").Holds))
			}
		})
	}
}

// What Redis keeps of rate keys goes by itself, soon after it says anything; and says of nobody who it is.
func TestRateKeysGoByThemselves(t *testing.T) {
	client := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := NewRedis(client, prefix)
	g := &Gate{Store: s, Log: slog.New(slog.DiscardHandler)}
	for i := range 3 {
		l := g.Ask(t.Context(), Try{Sink: "ops", RateKey: fmt.Sprint("+4915112345", i), End: time.Now().Add(time.Second), Policy: Policy{Rate: Rate{PerSecond: 0.5}}})
		if l.Verdict != Go {
			t.Fatalf("%+v", l)
		}
		g.Tell(t.Context(), l, Told{Hold: 10 * time.Second})
	}
	keys, err := client.Keys(t.Context(), "*"+prefix+"*").Result()
	if err != nil || len(keys) != 4 {
		t.Fatalf("keys %q, %v; want three rates and the holds", keys, err)
	}
	for _, key := range keys {
		ttl, err := client.PTTL(t.Context(), key).Result()
		most := 3500 * time.Millisecond
		if strings.HasSuffix(key, ":holds") {
			most = aftermath + 12*time.Second
			members, err := client.ZRange(t.Context(), key, 0, -1).Result()
			if err != nil || len(members) != 3 || strings.Contains(fmt.Sprint(members), "112345") {
				t.Errorf("holds of %q, %v; want three hashes", members, err)
			}
		}
		if err != nil || ttl <= 0 || ttl > most || strings.Contains(key, "112345") {
			t.Errorf("%s goes in %s, %v; want at most %s", key, ttl, err, most)
		}
	}
}

// Slots of many rate keys are taken in one call, each by its own rate; those of one come in order.
func TestStoresHandOutSlotsByKey(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			if name == "redis that loses replies" {
				s.Store = &Memory{} // which would ask twice; what is lost then is what it says in Take
			}
			now := clock(t, s) * 1000
			q := Slots{Interval: 100_000_000, Random: 0.5, Keys: []string{"a", "b", "a", "", "a", "b", ""}}
			for range q.Keys {
				q.Latest = append(q.Latest, now+150_000_000)
			}
			got, err := s.Take(t.Context(), "ops", "r", q)
			if err != nil {
				t.Fatal(err)
			}
			want := []struct {
				taken bool
				at    int64 // times 100 s
			}{{true, 0}, {true, 0}, {true, 1}, {true, 0}, {false, 3}, {true, 1}, {true, 1}}
			for i, g := range got {
				if at := (g.At - now + 50_000_000) / 100_000_000; g.Taken != want[i].taken || at != want[i].at {
					t.Errorf("slot %d: %+v (%d), want %+v", i, g, at, want[i])
				}
			}
		})
	}
}
