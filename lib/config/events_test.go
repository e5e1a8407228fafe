package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/delivery/fate"
)

const fake = "kind: fake\nurl: https://one\n"

func TestEventsAreReadWithTheirFates(t *testing.T) {
	dir := write(t, map[string]string{
		"all.yaml":   fake + "events: {to: audit}\n",
		"some.yaml":  fake + "events:\n  to: audit\n  on: [dead_lettered, parked]\n",
		"none.yaml":  fake,
		"audit.yaml": fake,
	})
	s := loaded(t, dir, nil, nil)
	if got := texts(s.Findings()); len(got) > 0 {
		t.Errorf("findings %q", got)
	}
	for name, want := range map[string]fate.Events{
		"all": {To: "audit"}, "some": {To: "audit", On: []fate.Fate{fate.DeadLettered, fate.Parked}}, "none": {}, "audit": {},
	} {
		if sink, _ := s.Sink(name); sink.Err != nil || !cmp.Equal(sink.Events, want) {
			t.Errorf("%s: %+v (%v), want %+v", name, sink.Events, sink.Err, want)
		}
	}
	next := loaded(t, dir, nil, s)
	for _, name := range s.Names() {
		was, _ := s.Sink(name)
		if is, _ := next.Sink(name); is != was {
			t.Errorf("%s was built anew, and did not change", name)
		}
	}
}

func TestBadEventsAreFindingsOfTheirSink(t *testing.T) {
	dir := write(t, map[string]string{
		"audit.yaml": fake,
		"a.yaml":     fake + "events: {on: [parked]}\n",
		"b.yaml":     fake + "events: {to: audit, on: [deliverd, parked, parked]}\n",
		"c.yaml":     fake + "events: {to: audit, on: []}\n",
		"d.yaml":     fake + "events: audit\n",
		"f.yaml":     fake + "events: {to: Bad/Name}\n",
		"g.yaml":     fake + "events: {too: audit}\n",
	})
	s := loaded(t, dir, nil, nil)
	want := []string{
		`a.yaml:3:1: a: events.to: is missing: the sink that the events are sent through`,
		`b.yaml:3:26: b: events.on[0]: unknown fate; known are delivered, dead_lettered, delivered_by_replay, parked, expired, canceled, discarded, new_cause; did you mean "delivered"?`,
		`b.yaml:3:44: b: events.on[2]: comes twice`,
		`c.yaml:3:21: c: events.on: names no fate; to tell all of them, leave it out`,
		`d.yaml:3:1: d: events: want a mapping of keys to values`,
		`f.yaml:3:10: f: events.to: want the name of a sink`,
		`g.yaml:3:10: g: events.too: unknown key; known: on, to; did you mean "to"?`,
	}
	if diff := cmp.Diff(want, texts(s.Findings())); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
	for _, name := range []string{"a", "b", "c", "d", "f", "g"} {
		if sink, _ := s.Sink(name); sink.Err == nil {
			t.Errorf("%s can be used", name)
		}
	}
}

// Who names whom is known once all sinks are. It keeps none from sending, and no event makes
// another.
func TestEventsNeverGoInCircles(t *testing.T) {
	dir := write(t, map[string]string{
		"audit.yaml":  fake + "events: {to: log}\n",
		"log.yaml":    fake,
		"orders.yaml": fake + "events: {to: audit}\n",
		"self.yaml":   fake + "events: {to: self}\n",
		"ring-a.yaml": fake + "events: {to: ring-b}\n",
		"ring-b.yaml": fake + "events: {to: ring-a}\n",
		"typo.yaml":   fake + "events:\n  to: audti\n",
	})
	s := loaded(t, dir, nil, nil)
	want := []string{
		`audit.yaml:3:1: audit: events: the events of orders go through this sink, so it has none of its own: leave it out`,
		`ring-a.yaml:3:1: ring-a: events: the events of ring-b go through this sink, so it has none of its own: leave it out`,
		`ring-b.yaml:3:1: ring-b: events: the events of ring-a go through this sink, so it has none of its own: leave it out`,
		`self.yaml:3:10: self: events.to: a sink cannot tell its own fates: name another one`,
		`typo.yaml:4:3: typo: events.to: there is no such sink: its events become dead letters that wait for it; did you mean "audit"?`,
	}
	if diff := cmp.Diff(want, texts(s.Findings())); diff != "" {
		t.Errorf("findings (-want +got)\n%s", diff)
	}
	for name, to := range map[string]string{"audit": "", "log": "", "orders": "audit", "self": "", "ring-a": "", "ring-b": "", "typo": "audti"} {
		if sink, _ := s.Sink(name); sink.Err != nil || sink.Events.To != to {
			t.Errorf("%s: %+v (%v), want %q", name, sink.Events, sink.Err, to)
		}
	}
	// Once nobody's events go through it any more, its own are told, and the one that was in use
	// stays as it was.
	before, _ := s.Sink("audit")
	rest := write(t, map[string]string{"audit.yaml": fake + "events: {to: log}\n", "log.yaml": fake})
	after, _ := loaded(t, rest, nil, s).Sink("audit")
	if after.Events.To != "log" || before.Events.To != "" || after.Sink != before.Sink {
		t.Errorf("before %+v, afterwards %+v", before.Events, after.Events)
	}
}
