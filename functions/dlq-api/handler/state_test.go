package handler

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
)

// lettersInEveryState stores one dead letter in each state that can be made here and returns
// their ids.
func lettersInEveryState(t *testing.T, f *fixture) map[dlq.State]string {
	t.Helper()
	ids := map[dlq.State]string{}
	for i, state := range []dlq.State{
		dlq.StateDue, dlq.StateScheduled, dlq.StateWaiting, dlq.StateParked, dlq.StateDelivered, dlq.StateReplaying,
	} {
		it := item(i)
		action := dlq.Action("")
		switch state {
		case dlq.StateScheduled:
			it.NotBefore = time.Now().Add(time.Hour)
		case dlq.StateWaiting:
			it.Reason = dlq.ReasonTerminal
		case dlq.StateParked:
			action = dlq.ActionPark
		case dlq.StateDelivered:
			action = dlq.ActionKeep
		}
		ids[state] = f.add(t, it).ID
		if action == "" && state != dlq.StateReplaying {
			continue
		}
		leased, err := f.app.Queue.Claim(t.Context(), dlq.Claim{Sink: "hook", IDs: []string{ids[state]}, TTL: time.Hour})
		if err != nil || len(leased) != 1 {
			t.Fatalf("claim: %v, %v", leased, err)
		}
		if action == "" {
			continue
		}
		if _, err := f.app.Queue.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: action}}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func TestAStateIsShownAndSelects(t *testing.T) {
	f := newFixture(t)
	ids := lettersInEveryState(t, f)
	type shown struct {
		ID    string
		State dlq.State
	}
	want := map[dlq.State]int64{}
	for state, id := range ids {
		want[state] = 1
		var one shown
		f.ask(t, "GET", "/v1/dlq/items/"+id, "").want(200, "").into(&one)
		var list struct{ Items []shown }
		f.ask(t, "GET", "/v1/dlq/items?state="+string(state), "").want(200, "").into(&list)
		var line shown
		exported := f.ask(t, "GET", "/v1/dlq/export?state="+string(state), "").want(200, "").Body.String()
		if err := json.Unmarshal([]byte(strings.TrimSpace(exported)), &line); err != nil {
			t.Fatalf("%v: %s", err, exported)
		}
		for what, got := range map[string][]shown{"item": {one}, "list": list.Items, "export": {line}} {
			if len(got) != 1 || got[0] != (shown{id, state}) {
				t.Errorf("%s of %s: got %+v, want %s", what, state, got, id)
			}
		}
		var groups struct {
			Groups   []dlq.Group
			Complete bool
			Scanned  int
		}
		f.ask(t, "GET", "/v1/dlq/groups?sink=hook&state="+string(state), "").want(200, "").into(&groups)
		if len(groups.Groups) != 1 || groups.Groups[0].Count != 1 || !groups.Complete || groups.Scanned != len(ids) {
			t.Errorf("groups in %s: %+v", state, groups)
		}
	}
	var sinks struct {
		Sinks []struct {
			Name        string
			Due, Parked int64
			States      map[dlq.State]int64
		}
	}
	f.ask(t, "GET", "/v1/sinks", "").want(200, "").into(&sinks)
	// Due keeps its meaning: now or later, what is leased included.
	if s := sinks.Sinks[0]; s.Name != "hook" || s.Due != 3 || s.Parked != 1 || !maps.Equal(s.States, want) {
		t.Errorf("sink %+v, want due 3, parked 1, states %v", s, want)
	}
	var count struct{ States map[dlq.State]int64 }
	f.ask(t, "GET", "/v1/dlq/count", "").want(200, "").into(&count)
	if !maps.Equal(count.States, want) {
		t.Errorf("count by state %v, want %v", count.States, want)
	}
	var empty struct{ Items []shown }
	f.ask(t, "GET", "/v1/dlq/items?state=expired", "").want(200, "").into(&empty)
	if len(empty.Items) != 0 {
		t.Errorf("expired: %+v", empty.Items)
	}
}

// An item that only became due meanwhile is the one that an operator looked at; a copy of it
// is not current any more.
func TestTimeAloneChangesAnItemsTagForReadersOnly(t *testing.T) {
	scheduled := dlq.Item{ID: "hook~1-0", Reason: dlq.ReasonExhausted, NextReplayAt: time.Now().Add(time.Hour)}
	before, err := itemTag(scheduled.Show(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	after, err := itemTag(scheduled.Show(time.Now().Add(2 * time.Hour)))
	if err != nil || before == after {
		t.Fatalf("tags %s and %s, %v: want two", before, after, err)
	}
	f := newFixture(t)
	url := "/v1/dlq/items/" + f.add(t, item(1)).ID
	tag := f.ask(t, "GET", url, "").want(200, "").Header().Get("ETag")
	if !strings.HasSuffix(tag, `.due"`) {
		t.Fatalf("ETag %s, want one that ends with the state", tag)
	}
	f.ask(t, "DELETE", url, "", "If-Match", strings.Replace(tag, ".due", ".scheduled", 1)).want(204, "")
}
