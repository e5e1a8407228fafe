package wipe

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What the account says of histories, so that what it says of a run means something.
func TestTheAccountFindsWhatNobodyExplains(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	times := func(seconds ...float64) (all []time.Time) {
		for _, s := range seconds {
			all = append(all, at(s))
		}
		return all
	}
	// Redis is wiped at 100.
	f := faults{wipes: []span{{at(100), at(100.5)}}, kills: times(50), drops: times(30), send: 5 * time.Second, replay: 20 * time.Second}
	ended := []span{{at(1), at(60)}}   // a journal that had deleted it before the wipe
	open := []span{{at(1), at(130)}}   // one that had not
	late := []span{{at(120), at(130)}} // one that was written late
	waiting := []entry{{reason: "terminal"}}
	for name, c := range map[string]struct {
		history
		became fate
		again  []why
		wrong  string
	}{
		"delivered once":                           {history{begun: at(0), acked: at(1), arrivals: times(1)}, delivered, nil, ""},
		"an operator decides":                      {history{begun: at(0), acked: at(1), lives: open, stored: waiting}, deadLettered, nil, ""},
		"the caller has it":                        {history{begun: at(0)}, handedBack, nil, ""},
		"acknowledged and nowhere":                 {history{begun: at(0), acked: at(1)}, lost, nil, "LOST"},
		"acknowledged, and in the journal alone":   {history{begun: at(0), acked: at(1), lives: open}, lost, nil, "LOST"},
		"due and there":                            {history{begun: at(0), acked: at(1), stored: []entry{{reason: "exhausted"}}}, deadLettered, nil, "still there"},
		"parked":                                   {history{begun: at(0), acked: at(1), stored: []entry{{reason: "exhausted", parked: true}}}, deadLettered, nil, ""},
		"stored twice":                             {history{begun: at(0), acked: at(1), stored: append(waiting, waiting...)}, deadLettered, nil, "stored 2 times"},
		"arrived and stored":                       {history{begun: at(0), acked: at(1), arrivals: times(2), stored: waiting}, deadLettered, nil, "arrived, and is stored"},
		"twice for no reason":                      {history{begun: at(0), acked: at(1), arrivals: times(10, 20)}, delivered, nil, "arrived 10s after"},
		"twice around a wipe, not in the journal":  {history{begun: at(0), acked: at(1), arrivals: times(90, 120), recorded: times(90.1), lives: ended}, delivered, nil, "arrived 30s after"},
		"twice around a wipe, in the journal":      {history{begun: at(0), acked: at(1), arrivals: times(99, 120), recorded: times(99), lives: open}, delivered, []why{whyRestored}, ""},
		"in the journal, and twice after the wipe": {history{begun: at(0), acked: at(1), arrivals: times(110, 120), recorded: times(110), lives: open}, delivered, nil, "arrived 10s after"},
		"written late":                             {history{begun: at(0), acked: at(1), arrivals: times(99, 125), recorded: times(99), lives: late}, delivered, []why{whyRestored}, ""},
		"three times around one wipe":              {history{begun: at(0), acked: at(1), arrivals: times(99, 120, 125), recorded: times(99, 120), lives: open}, delivered, []why{whyRestored}, "arrived 5s after"},
		"no answer before the wipe":                {history{begun: at(98), acked: at(102), arrivals: times(99, 102), recorded: times(99)}, delivered, []why{whyResent}, ""},
		"an answer before the wipe":                {history{begun: at(90), acked: at(91), arrivals: times(91, 102), recorded: times(91)}, delivered, nil, "arrived 11s after"},
		"its process died":                         {history{begun: at(0), acked: at(4), died: times(2), arrivals: times(1, 4)}, delivered, []why{whyDied}, ""},
		"its process died long after":              {history{begun: at(0), acked: at(20), died: times(10), arrivals: times(1, 20)}, delivered, nil, "arrived 19s after"},
		"its replay died":                          {history{begun: at(0), acked: at(1), arrivals: times(49, 70), recorded: times(70.1)}, delivered, []why{whyReplayDied}, ""},
		"another replay died, this was recorded":   {history{begun: at(0), acked: at(1), arrivals: times(49, 70), recorded: times(49.1, 70.1)}, delivered, nil, "arrived 21s after"},
		"its outcome was not recorded":             {history{begun: at(0), acked: at(1), arrivals: times(10, 40), unrecorded: times(11)}, delivered, []why{whyUnrecorded}, ""},
		"its record was out of reach":              {history{begun: at(0), acked: at(4), arrivals: times(1, 4), unguarded: times(1)}, delivered, []why{whyUnguarded}, ""},
		"handed back with a reply lost":            {history{begun: at(28), acked: at(33), arrivals: times(33, 40), recorded: times(33), unsure: times(31)}, delivered, []why{whyUnsure}, ""},
		"handed back, and no reply was lost":       {history{begun: at(8), acked: at(13), arrivals: times(13, 20), recorded: times(13), unsure: times(11)}, delivered, nil, "arrived 7s after"},
	} {
		became, again, wrong := f.judge(c.history)
		text := strings.Join(wrong, "; ")
		if became != c.became || !slices.Equal(again, c.again) || !strings.Contains(text, c.wrong) || (c.wrong == "") != (text == "") {
			t.Errorf("%s: %s, %q, wrong: %q; want %s, %q, wrong: %q", name, became, again, text, c.became, c.again, c.wrong)
		}
	}
}
