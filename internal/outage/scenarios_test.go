package outage

import (
	"fmt"
	"time"

	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

var errDown = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})

// The receivers' answers, and how long they take.
var (
	taken = answer{took: 50 * time.Millisecond}
	down  = answer{took: 20 * time.Millisecond, err: errDown}
	hangs = answer{hang: true}
)

func busy(left time.Duration) answer {
	seconds := (left + time.Second - 1).Truncate(time.Second) // as the header says it
	return answer{took: 20 * time.Millisecond, err: sinks.Hold(errDown, seconds)}
}

// scenario is a plan, what is said of its runs, and what must be true of them.
type scenario struct {
	plan
	// once: without a baseline, for it is its own.
	once bool
	// say adds to a run's row.
	say func(w *world) string
	// claims holds the run with the gate against the one without; empty texts are fine.
	claims func(gate, none *world) []string
}

// scale is how large a run is.
type scale struct {
	processes int
	hour      time.Duration
}

// scenarios are played one after the other. A batch comes to each process every five minutes.
func scenarios(c scale) []scenario {
	const well = 5 * time.Minute // before and after
	base := plan{
		processes: c.processes, batch: 10, every: 5 * time.Minute, traffic: c.hour, drain: 30 * time.Minute, visible: time.Minute,
		replay: replay.Policy{Concurrency: 50},
		answer: func(asked) answer { return taken },
	}
	// steady is how often a batch comes where it must not be seldom: so many deliveries per second
	// in all that a receiver's failures fall into one window.
	steady := time.Duration(float64(base.processes*base.batch) / max(10, float64(c.processes)/10) * float64(time.Second))
	named := func(name string, change func(*plan)) plan {
		p := base
		p.name = name
		change(&p)
		return p
	}
	between := func(at, from, to time.Duration) bool { return at >= from && at < to }
	back := well + c.hour // the receiver's return
	ends := back + 15*time.Minute

	list := []scenario{{
		plan: named("well", func(*plan) {}),
		say: func(w *world) string {
			return fmt.Sprintf("store calls per delivery %.2f", w.perDelivery(w.looks+w.swaps+w.takes))
		},
		claims: func(g, _ *world) []string {
			return []string{
				claim(g.swaps+g.takes == 0, "%d changes and %d slots asked for; want questions alone", g.swaps, g.takes),
				claim(g.fates["at once"] == len(g.accepted), "%d of %d delivered at once", g.fates["at once"], len(g.accepted)),
				claim(float64(g.looks) <= float64(g.plan.processes)*g.plan.traffic.Seconds()/viewAge.Seconds(), "%d questions", g.looks),
			}
		},
	}}
	for _, percent := range []int{3, 20} {
		for _, attempts := range []int{1, 5} {
			list = append(list, scenario{
				plan: named(fmt.Sprintf("%d%% fail, max_attempts %d", percent, attempts), func(p *plan) {
					p.every, p.retry.MaxAttempts = steady, attempts
					p.traffic = c.hour / 4
					p.answer = func(a asked) answer {
						if a.chance < float64(percent)/100 {
							return down
						}
						return taken
					}
				}),
				once: true,
				say:  func(w *world) string { return fmt.Sprintf("refused by single processes %d", w.fates["open"]) },
				claims: func(g, _ *world) []string {
					return []string{claim(g.opened() == 0, "it opened %d times", g.opened())}
				},
			})
		}
	}
	outage := func(at time.Duration) bool { return between(at, well, back) }
	list = append(list, scenario{
		plan: named("down", func(p *plan) {
			p.traffic = ends
			p.answer = func(a asked) answer {
				if outage(a.at) {
					return down
				}
				return taken
			}
		}),
		say: func(w *world) string {
			return w.comesBack(well, back)
		},
		claims: func(g, n *world) []string {
			in := g.count(func(a attempt) bool { return outage(a.at) })
			most := min(g.plan.processes*g.plan.batch, int(float64(g.plan.processes*g.plan.batch)*30/g.plan.every.Seconds())) + 40 +
				int(c.hour/g.plan.flow.Normalize().Breaker.ProbeEvery) + 10
			first := g.firstSuccess(back)
			return []string{
				claim(in <= most, "%d attempts while it was down, want at most %d", in, most),
				claim(g.paidWhile(well, back) <= n.paidWhile(well, back)/10, "%s paid per delivery while it was down, without a gate %s; want a tenth", g.paidWhile(well, back), n.paidWhile(well, back)),
				claim(first <= flow.DefaultProbeEvery+time.Minute, "the first success came %s after the return", first),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	})
	// A short hold is waited for by processes that are busy, a long one by the schedule.
	for _, hold := range []time.Duration{20 * time.Second, 10 * time.Minute} {
		period, every, batch := 15*time.Minute, base.every, base.batch
		if hold < time.Minute {
			period, every, batch = 3*time.Minute, time.Second, 1
		}
		holding := func(at time.Duration) bool { return at%period >= period-hold }
		spike := func(w *world) int { return w.peak(period, 15*time.Second) }
		list = append(list, scenario{
			plan: named(fmt.Sprintf("429 for %s", hold), func(p *plan) {
				p.every, p.batch = every, batch
				p.traffic = 2*period + time.Minute
				p.answer = func(a asked) answer {
					if holding(a.at) {
						return busy(period - a.at%period)
					}
					return taken
				}
			}),
			say: func(w *world) string {
				return fmt.Sprintf("requests during 2 holds %d, peak after one %d in 0.1 s", w.count(func(a attempt) bool { return holding(a.at) }), spike(w))
			},
			claims: func(g, n *world) []string {
				in, without := g.count(func(a attempt) bool { return holding(a.at) }), n.count(func(a attempt) bool { return holding(a.at) })
				perSecond := float64(g.plan.processes*g.plan.batch) / g.plan.every.Seconds()
				most := int(2*(perSecond*(viewAge+time.Second).Seconds()+float64(g.plan.batch))) + 2*g.plan.batch
				return []string{
					claim(in <= most, "%d requests during the holds, want at most %d: those of processes that could not know", in, most),
					claim(g.drained > 0, "the backlog was never drained"),
					claim(in < without, "%d requests during the holds, without a gate %d", in, without),
					claim(float64(spike(g)) <= max(perSecond*hold.Seconds()/6, 20), "%d attempts within 0.1 s after a hold, want at most a sixth of the %.0f that came meanwhile",
						spike(g), perSecond*hold.Seconds()),
					// What waits for the schedule comes back at its pace, with a gate and without.
					claim(hold > time.Minute || 3*spike(g) <= 2*spike(n), "%d attempts within 0.1 s after a hold, without a gate %d", spike(g), spike(n)),
				}
			},
		})
	}
	list = append(list, scenario{
		plan: named("flapping, 1 min each", func(p *plan) {
			p.every, p.traffic = steady, c.hour
			p.answer = func(a asked) answer {
				if a.at < c.hour && int(a.at/time.Minute)%2 == 1 {
					return down
				}
				return taken
			}
		}),
		say: func(w *world) string {
			return fmt.Sprintf("at once %.0f%%, empty %s after it", 100*w.perDelivery(w.fates["at once"]), w.drained-c.hour)
		},
		claims: func(g, n *world) []string {
			return []string{
				claim(len(g.attempts) <= len(n.attempts), "%d attempts, without a gate %d", len(g.attempts), len(n.attempts)),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	}, scenario{
		plan: named("hangs", func(p *plan) {
			p.traffic = well + c.hour/3 + 15*time.Minute
			p.answer = func(a asked) answer {
				if between(a.at, well, well+c.hour/3) {
					return hangs
				}
				return taken
			}
		}),
		say: func(w *world) string { return w.comesBack(well, well+c.hour/3) },
		claims: func(g, n *world) []string {
			with, without := g.paidWhile(well, well+c.hour/3), n.paidWhile(well, well+c.hour/3)
			return []string{
				claim(with <= without/3, "%s paid per delivery while it hung, without a gate %s; want a third at most", with, without),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	})
	const bad = "https://h0.example"
	others := func(a attempt) bool { return a.host != bad }
	list = append(list, scenario{
		plan: named("1 of 20 hosts down", func(p *plan) {
			p.every = steady
			p.hosts, p.traffic = 20, well+c.hour/3+15*time.Minute
			p.answer = func(a asked) answer {
				if a.host == bad && between(a.at, well, well+c.hour/3) {
					return down
				}
				return taken
			}
		}),
		say: func(w *world) string {
			return fmt.Sprintf("attempts at the bad one %d; others' deliveries %d, attempts %d", w.count(func(a attempt) bool { return a.host == bad }),
				w.deliveries(func(host any) bool { return host != bad }), w.count(others))
		},
		claims: func(g, _ *world) []string {
			want := g.deliveries(func(host any) bool { return host != bad })
			got := g.count(func(a attempt) bool { return others(a) && a.good && !a.replayed })
			return []string{
				claim(got == want && g.count(others) == want, "others: %d deliveries, %d delivered at once in %d attempts", want, got, g.count(others)),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	})
	cut := func(from, to time.Duration) func(time.Duration, int) bool {
		return func(at time.Duration, process int) bool { return process%2 == 1 && between(at, from, to) }
	}
	part := well + c.hour/3
	list = append(list, scenario{
		plan: named("half cut off, well", func(p *plan) {
			p.traffic, p.every, p.cut = part+2*well, steady, cut(well, well+part)
		}),
		once: true,
		say: func(w *world) string {
			return fmt.Sprintf("at once %.1f%%", 100*w.perDelivery(w.fates["at once"]))
		},
		claims: func(g, _ *world) []string {
			return []string{claim(g.fates["at once"] == len(g.accepted) && len(g.attempts) == len(g.accepted), "%d of %d delivered at once, %d attempts",
				g.fates["at once"], len(g.accepted), len(g.attempts))}
		},
	}, scenario{
		plan: named("half cut off, down", func(p *plan) {
			p.every = steady
			p.traffic, p.cut = part+3*well, cut(well, well+part)
			p.answer = func(a asked) answer {
				if between(a.at, 2*well, well+part) {
					return down
				}
				return taken
			}
		}),
		say: func(w *world) string {
			lone := w.count(func(a attempt) bool { return a.cut && between(a.at, 2*well, well+part) })
			return fmt.Sprintf("attempts per cut process and minute %.1f; %s", float64(lone)/float64(w.plan.processes/2)/(part-well).Minutes(), w.comesBack(2*well, well+part))
		},
		claims: func(g, _ *world) []string {
			lone := g.count(func(a attempt) bool { return a.cut && between(a.at, 2*well, well+part) })
			// Ten at once before it stops, then 1, 2, 4, 8, 16 and each 30 s.
			most := g.plan.processes / 2 * (g.plan.batch + 6 + int((part-well)/(30*time.Second)))
			return []string{
				claim(lone <= most, "%d attempts by processes that were cut off, want at most %d", lone, most),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	}, scenario{
		plan: named("5/s, 8 send, 2 replay", func(p *plan) {
			p.processes, p.batch, p.every, p.engines = 8, 1, time.Second, 2
			p.traffic, p.drain = 5*time.Minute, 15*time.Minute
			p.flow.Rate = flow.Rate{PerSecond: 5, Burst: 3}
		}),
		say: func(w *world) string {
			fresh, replayed := w.sides()
			return fmt.Sprintf("while deliveries came: used %.1f%%, %d fresh, %d replayed; then empty after %s", 100*w.used(), fresh, replayed, (w.drained - w.plan.traffic).Round(time.Second))
		},
		claims: func(g, _ *world) []string {
			fresh, replayed := g.sides()
			return []string{
				claim(g.used() >= 0.95, "%.1f%% of the rate used, want 95%%", 100*g.used()),
				claim(fresh >= int(g.plan.traffic.Seconds()), "%d fresh ones: the backlog starves them", fresh),
				claim(replayed >= int(g.plan.traffic.Seconds())/2, "%d replayed: the fresh ones starve the backlog", replayed),
				claim(g.drained > 0, "the backlog was never drained"),
			}
		},
	})
	return list
}

func claim(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
