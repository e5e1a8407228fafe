package outage

import (
	"fmt"
	"time"
)

func (w *world) count(f func(attempt) bool) (n int) {
	for _, a := range w.attempts {
		n += one(f(a))
	}
	return n
}

func (w *world) deliveries(f func(host any) bool) (n int) {
	for id := range w.accepted {
		n += one(f(w.host(id)))
	}
	return n
}

func (w *world) perDelivery(n int) float64 { return float64(n) / float64(max(len(w.accepted), 1)) }

// opened is how often a breaker opened.
func (w *world) opened() (n int) {
	for _, s := range w.receivers {
		n += s.opened
	}
	return n
}

// firstSuccess is how long after at the first attempt went well.
func (w *world) firstSuccess(at time.Duration) time.Duration {
	for _, a := range w.attempts {
		if a.at >= at && a.good {
			return a.at - at
		}
	}
	return time.Duration(1<<63 - 1)
}

// comesBack tells of an outage.
func (w *world) comesBack(from, to time.Duration) string {
	return fmt.Sprintf("while down: attempts %d, paid each %s; then the first success after %s, empty after %s",
		w.count(func(a attempt) bool { return a.at >= from && a.at < to }), w.paidWhile(from, to).Round(time.Millisecond),
		w.firstSuccess(to).Round(time.Millisecond), (w.drained - to).Round(time.Second))
}

// paidWhile is what invocations that began between the two cost for each of their deliveries.
func (w *world) paidWhile(from, to time.Duration) time.Duration {
	var paid time.Duration
	n := 0
	for _, v := range w.invocations {
		if v.at >= from && v.at < to {
			paid += v.took
			n += v.deliveries
		}
	}
	return paid / time.Duration(max(n, 1))
}

// peak is the most attempts within a tenth of a second, in the time after at.
func (w *world) peak(at, after time.Duration) int {
	tenths := map[time.Duration]int{}
	most := 0
	for _, a := range w.attempts {
		if a.at >= at && a.at < at+after {
			tenth := a.at / (100 * time.Millisecond)
			tenths[tenth]++
			most = max(most, tenths[tenth])
		}
	}
	return most
}

// used is the share of the rate that was used while deliveries came, after the first half minute.
func (w *world) used() float64 {
	const warm = 30 * time.Second
	n := w.count(func(a attempt) bool { return a.at >= warm && a.at < w.plan.traffic })
	return float64(n) / (w.plan.flow.Rate.PerSecond * (w.plan.traffic - warm).Seconds())
}

// invocation is one batch's.
type invocation struct {
	at, took   time.Duration
	deliveries int
}

// sides counts, while deliveries came, attempts of fresh ones and of replays.
func (w *world) sides() (fresh, replayed int) {
	for _, a := range w.attempts {
		if a.at < w.plan.traffic {
			replayed += one(a.replayed)
			fresh += one(!a.replayed)
		}
	}
	return fresh, replayed
}
