package dlqtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

var listCases = []Case{
	{
		Name: "metadata is searched exactly",
		Rule: "Query.Meta selects what has each of the names with exactly this value, whatever else it has, and what others wrote too",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for id, meta := range map[string]map[string]string{
				"a": {"tenant": "t3", "zone": "eu"}, "b": {"tenant": "t3"}, "c": {"tenant": "t30"}, "d": {"x": "tenant", "y": "t3"}, "e": nil,
				"f": {"tenant": ""}, "g": {"<a&\"b\">": "ä\u2028\n"}, "h": {"bad": "\xff"},
			} {
				it := item("mail", id)
				it.Message.Metadata, it.Message.Body = meta, `{"tenant":"t3"}`
				add(t, s, it)
			}
			for _, tt := range []struct {
				meta map[string]string
				want string
			}{
				{map[string]string{"tenant": "t3"}, "a b"},
				{map[string]string{"tenant": "t3", "zone": "eu"}, "a"},
				{map[string]string{"tenant": ""}, "f"},
				{map[string]string{"none": ""}, ""},
				{map[string]string{"Tenant": "t3"}, ""},
				{map[string]string{"<a&\"b\">": "ä\u2028\n"}, "g"},
				{map[string]string{"bad": "\uFFFD"}, "h"},
				{nil, "a b c d e f g h"},
			} {
				p, err := s.Page(t.Context(), dlq.Query{Meta: tt.meta})
				got := deliveries(p.Items)
				slices.Sort(got)
				if err != nil || strings.Join(got, " ") != tt.want {
					t.Errorf("Page with %q = %q, %v; want %q", tt.meta, got, err, tt.want)
				}
			}
			_, err := s.Page(t.Context(), dlq.Query{Meta: map[string]string{"": "x"}})
			wantCode(t, "Page without a name", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "items are newest first, of one sink or all",
		Rule: "Items merges all sinks by age; limit <= 0 is DefaultLimit",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for i, sink := range []string{"a", "b", "a", "c", "b"} {
				add(t, s, item(sink, fmt.Sprint(i)))
				await.Millisecond()
			}
			for _, c := range []struct {
				sink  string
				limit int
				want  []string
			}{
				{"", 0, []string{"4", "3", "2", "1", "0"}},
				{"", 3, []string{"4", "3", "2"}},
				{"a", -1, []string{"2", "0"}},
				{"b", 1, []string{"4"}},
				{"nobody", 0, []string{}},
			} {
				items, err := s.Items(t.Context(), c.sink, c.limit)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, deliveries(items)); diff != "" {
					t.Errorf("Items(%q, %d) (-want +got):\n%s", c.sink, c.limit, diff)
				}
			}
			_, err := s.Items(t.Context(), "Bad Name", 0)
			wantCode(t, "Items of a bad name", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "items beyond one page",
		Rule: "Items returns up to 1,000 by default, and as many as asked for",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 1010)
			for limit, want := range map[int]int{0: 1000, 5000: 1010} {
				items, err := s.Items(t.Context(), "", limit)
				if err != nil || len(items) != want {
					t.Errorf("Items(limit %d) = %d items, %v; want %d", limit, len(items), err, want)
				}
			}
		},
	},
	{
		Name: "a cursor visits every item once",
		Rule: "following NextCursor shows each item that was there at the beginning exactly once, in order, whatever is pushed or discarded meanwhile",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			want := map[string]bool{}
			for i := range 60 {
				it := add(t, s, item(fmt.Sprintf("s%d", i%7), fmt.Sprint(i)))
				want[it.ID] = true
			}
			q := dlq.Query{Limit: 7}
			last := ""
			for n := 0; ; n++ {
				p, err := s.Page(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if !p.Complete {
					t.Errorf("page %d is incomplete", n)
				}
				for _, it := range p.Items {
					if !want[it.ID] {
						t.Errorf("%s came twice, or is new", it.ID)
					}
					delete(want, it.ID)
					if id, _ := dlq.ParseID(it.ID); last != "" && dlq.CompareNative(id.Native, last) > 0 {
						t.Errorf("%s came after %s", it.ID, last)
					} else {
						last = id.Native
					}
				}
				if p.NextCursor == "" {
					break
				}
				if len(p.Items) != 7 {
					t.Errorf("page %d has %d items, want 7", n, len(p.Items))
				}
				q.Cursor = p.NextCursor
				add(t, s, item("s0", fmt.Sprint("new", n)))
				if err := s.Discard(t.Context(), p.Items[0].ID); err != nil {
					t.Fatal(err)
				}
			}
			if len(want) > 0 {
				t.Errorf("%d items never came", len(want))
			}
		},
	},
	{
		Name: "the list ends without an empty page",
		Rule: "NextCursor is empty when the page holds the last item",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 10)
			for _, sink := range []string{"mail", ""} {
				p, err := s.Page(t.Context(), dlq.Query{Sink: sink, Limit: 10})
				if err != nil || len(p.Items) != 10 || p.NextCursor != "" || !p.Complete || p.Scanned != 10 {
					t.Errorf("Page(%q) = %d items, cursor %q, complete %v, scanned %d, %v", sink, len(p.Items), p.NextCursor, p.Complete, p.Scanned, err)
				}
			}
			p, err := s.Page(t.Context(), dlq.Query{Sink: "nobody"})
			if err != nil || p.Items == nil || len(p.Items) != 0 || p.NextCursor != "" || !p.Complete {
				t.Errorf("Page of nothing = %+v, %v", p, err)
			}
		},
	},
	{
		Name: "filters select",
		Rule: "every field of a Query narrows the page; text is looked for in subject, body, recipient, delivery id and last error, without regard to case",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			one := item("mail", "one")
			one.Message.Subject, one.Message.Body = `Say "Grüße" <now>`, "line\nbreak"
			one.Recipient = json.RawMessage(`{"address":"Anna@Example.org"}`)
			one.LastError = "dial tcp 10.0.0.1:25: i/o timeout"
			two := withReason(item("mail", "two"), dlq.ReasonTerminal)
			two.LastError = "HTTP 404: no such channel 17"
			three := withReason(item("chat", "three"), dlq.ReasonTerminal)
			three.LastError = "HTTP 404: no such channel 18"
			add(t, s, one)
			await.Millisecond()
			middle := add(t, s, two)
			await.Millisecond()
			add(t, s, three)
			id, err := dlq.ParseID(middle.ID)
			if err != nil {
				t.Fatal(err)
			}
			var ms int64
			if _, err := fmt.Sscanf(id.Native, "%d-", &ms); err != nil {
				t.Fatal(err)
			}
			at := time.UnixMilli(ms)
			for _, c := range []struct {
				name string
				q    dlq.Query
				want []string
			}{
				{"nothing", dlq.Query{}, []string{"three", "two", "one"}},
				{"sink", dlq.Query{Sink: "mail"}, []string{"two", "one"}},
				{"reason", dlq.Query{Reason: dlq.ReasonTerminal}, []string{"three", "two"}},
				{"reason and sink", dlq.Query{Reason: dlq.ReasonTerminal, Sink: "mail"}, []string{"two"}},
				{"delivery id", dlq.Query{DeliveryID: "two"}, []string{"two"}},
				{"part of a delivery id", dlq.Query{DeliveryID: "tw"}, []string{}},
				{"text in the subject", dlq.Query{Q: `"GRÜSSE`}, []string{}},
				{"text in the subject, folded", dlq.Query{Q: `"GRÜßE" <NOW>`}, []string{"one"}},
				{"text in the body", dlq.Query{Q: "LINE\nb"}, []string{"one"}},
				{"text in the recipient", dlq.Query{Q: "anna@example"}, []string{"one"}},
				{"text in the delivery id", dlq.Query{Q: "TW"}, []string{"two"}},
				{"text in the error", dlq.Query{Q: "no such CHANNEL"}, []string{"three", "two"}},
				{"text that is only a key", dlq.Query{Q: "delivery_id"}, []string{}},
				{"fingerprint", dlq.Query{Fingerprint: dlq.Fingerprint(two.LastError)}, []string{"three", "two"}},
				{"group", dlq.Query{Fingerprint: dlq.Fingerprint(two.LastError), Reason: dlq.ReasonTerminal}, []string{"three", "two"}},
				{"another group", dlq.Query{Fingerprint: dlq.Fingerprint(two.LastError), Reason: dlq.ReasonInvalid}, []string{}},
				{"no group", dlq.Query{Fingerprint: dlq.FingerprintOther}, []string{}},
				{"since", dlq.Query{Since: at}, []string{"three", "two"}},
				{"since a little later", dlq.Query{Since: at.Add(1)}, []string{"three"}},
				{"until", dlq.Query{Until: at}, []string{"one"}},
				{"until a little later", dlq.Query{Until: at.Add(1)}, []string{"two", "one"}},
				{"since and until", dlq.Query{Since: at, Until: at.Add(time.Millisecond)}, []string{"two"}},
				{"until before everything", dlq.Query{Until: time.UnixMilli(0)}, []string{}},
				{"up to", dlq.Query{UpTo: map[string]string{"mail": id.Native}}, []string{"two", "one"}},
				{"up to nothing", dlq.Query{UpTo: map[string]string{}}, []string{}},
				{"up to an empty sink", dlq.Query{UpTo: map[string]string{"mail": ""}}, []string{}},
			} {
				p, err := s.Page(t.Context(), c.q)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				if diff := cmp.Diff(c.want, deliveries(p.Items)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.name, diff)
				}
			}
		},
	},
	{
		Name: "a filter that must scan spends its budget",
		Rule: "a call reads at most MaxScan entries, says how many and that it is not complete, and its cursor leads on",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for i := range 4 {
				fillSink := fmt.Sprintf("s%d", i%2)
				batch := make([]dlq.Item, 50)
				for j := range batch {
					batch[j] = item(fillSink, fmt.Sprintf("%d-%d", i, j))
				}
				if _, errs := s.AddBatch(t.Context(), batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
					t.Fatal(errs)
				}
			}
			q := dlq.Query{Q: "b 0-3", MaxScan: 30}
			found, scanned, calls := []string{}, 0, 0
			for {
				p, err := s.Page(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				calls++
				scanned += p.Scanned
				found = append(found, deliveries(p.Items)...)
				if p.Scanned > 30 {
					t.Errorf("a call read %d entries, want at most 30", p.Scanned)
				}
				if p.Complete != (p.NextCursor == "") {
					t.Errorf("complete %v with cursor %q", p.Complete, p.NextCursor)
				}
				if p.NextCursor == "" {
					break
				}
				q.Cursor = p.NextCursor
			}
			slices.Sort(found)
			want := []string{"0-3", "0-30", "0-31", "0-32", "0-33", "0-34", "0-35", "0-36", "0-37", "0-38", "0-39"}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			if scanned != 200 || calls != 7 {
				t.Errorf("read %d entries in %d calls, want 200 in 7", scanned, calls)
			}
		},
	},
	{
		Name: "a page is bounded by bytes",
		Rule: "a page holds at most 4 MB encoded, at least one item, and its cursor leads on",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for i := range 15 {
				it := item(fmt.Sprintf("s%d", i%3), fmt.Sprint(i))
				it.Message.Body = strings.Repeat("<&>", 100_000)
				add(t, s, it)
			}
			q := dlq.Query{Limit: 50}
			seen, pages := 0, 0
			for {
				p, err := s.Page(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				size := 0
				for _, it := range p.Items {
					size += len(it.Message.Body)
				}
				if size > 4<<20 || len(p.Items) == 0 {
					t.Errorf("page of %d items and %d bytes", len(p.Items), size)
				}
				seen += len(p.Items)
				pages++
				if p.NextCursor == "" {
					break
				}
				q.Cursor = p.NextCursor
			}
			if seen != 15 || pages < 2 {
				t.Errorf("%d items on %d pages, want 15 on several", seen, pages)
			}
		},
	},
	{
		Name: "pages over many sinks",
		Rule: "with more sinks than a page has items, small and large entries come newest first, each once, with a filter and without",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			const many = 40
			var batch []dlq.Item
			for i := range 3 * many {
				it := item(fmt.Sprintf("s%d", i%many), fmt.Sprint(i))
				it.Message.Subject = []string{"even", "odd"}[i%2]
				if i%5 == 0 {
					it.Message.Body = strings.Repeat("x", 8<<10)
				}
				batch = append(batch, it)
			}
			if _, errs := s.AddBatch(t.Context(), batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
				t.Fatal(errs)
			}
			for _, q := range []dlq.Query{{Limit: 7}, {Limit: 7, Q: "odd"}, {Limit: 7, Q: "even", MaxScan: 11}} {
				want := 3 * many
				if q.Q != "" {
					want /= 2
				}
				seen, items, last := map[string]bool{}, 0, ""
				for next := true; next; next = q.Cursor != "" {
					p, err := s.Page(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					for _, it := range p.Items {
						id, err := dlq.ParseID(it.ID)
						if err != nil {
							t.Fatal(err)
						}
						if last != "" && dlq.CompareNative(id.Native, last) > 0 {
							t.Errorf("%+v: %s comes after %s", q, it.ID, last)
						}
						last, seen[it.ID] = id.Native, true
						items++
					}
					q.Cursor = p.NextCursor
				}
				if len(seen) != want || items != want {
					t.Errorf("%+v: %d items, %d of them different, want %d", q, items, len(seen), want)
				}
			}
		},
	},
	{
		Name: "bad cursors and bounds are refused",
		Rule: "what no list can answer is INVALID_ARGUMENT",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for name, q := range map[string]dlq.Query{
				"cursor":        {Cursor: "%%%"},
				"foreign":       {Cursor: "aGVsbG8"},
				"sink":          {Sink: "{x}"},
				"up to":         {UpTo: map[string]string{"mail": "latest"}},
				"up to, public": {UpTo: map[string]string{"mail": "mail~1-1"}},
			} {
				_, err := s.Page(t.Context(), q)
				wantCode(t, name, err, fault.CodeInvalidArgument)
			}
		},
	},
	{
		Name: "counts and sinks",
		Rule: "Count sums over the sinks that ever had a dead letter; their names stay when they are empty; WithSinks adds names",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithSinks(func() []string { return []string{"configured", "b", "{bad}"} }))
			a := add(t, s, item("a", "1"))
			add(t, s, item("b", "1"))
			add(t, s, item("b", "2"))
			if err := s.Discard(t.Context(), a.ID); err != nil {
				t.Fatal(err)
			}
			for sink, want := range map[string]int64{"": 2, "a": 0, "b": 2, "nobody": 0} {
				if n, err := s.Count(t.Context(), sink); err != nil || n != want {
					t.Errorf("Count(%q) = %d, %v; want %d", sink, n, err, want)
				}
			}
			names, err := s.Sinks(t.Context())
			if err != nil || !slices.Equal(names, []string{"a", "b", "configured"}) {
				t.Errorf("Sinks = %v, %v", names, err)
			}
			n, err := s.Count(t.Context(), "Bad Name")
			wantCode(t, "Count of a bad name", err, fault.CodeInvalidArgument)
			if n != -1 {
				t.Errorf("Count = %d, want -1", n)
			}
		},
	},
	{
		Name: "get by public and by bare id",
		Rule: "a public id leads to one item; a bare native id is accepted where one sink has it; none is SINK_DLQ_NOT_FOUND",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			id, err := dlq.ParseID(it.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := get(t, s, id.Native); got.ID != it.ID {
				t.Errorf("Get(%s) = %s, want %s", id.Native, got.ID, it.ID)
			}
			for _, missing := range []string{"mail~1-1", "nobody~" + id.Native, "1-1"} {
				_, err := s.Get(t.Context(), missing)
				wantCode(t, "Get("+missing+")", err, fault.CodeDLQNotFound)
			}
			for _, bad := range []string{"", "mail", "mail~", "{x}~1-1", "mail~1-1-1", "mail~99999999999999999999-0"} {
				_, err := s.Get(t.Context(), bad)
				wantCode(t, "Get("+bad+")", err, fault.CodeInvalidArgument)
			}
		},
	},
	{
		Name: "every answer tells the state",
		Rule: "Get, Items, Page and Stats tell what Item.State needs; a lease is known as long as it holds, and a claimed item is as it was before",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			states := map[dlq.State]string{}
			put := func(state dlq.State, it dlq.Item, do func(l dlq.Leased) error) {
				it.DeliveryID = string(state)
				states[state] = add(t, s, it).ID
				if do == nil {
					return
				}
				if err := do(claimOne(t, s, states[state])); err != nil {
					t.Fatal(err)
				}
			}
			settled := func(a dlq.Action) func(dlq.Leased) error {
				return func(l dlq.Leased) error {
					_, err := s.Settle(t.Context(), []dlq.Settlement{{Lease: l.Lease, Action: a}})
					return err
				}
			}
			put(dlq.StateDue, item("mail", ""), nil)
			late := item("mail", "")
			late.NotBefore = time.Now().Add(time.Hour)
			put(dlq.StateScheduled, late, nil)
			put(dlq.StateWaiting, withReason(item("mail", ""), dlq.ReasonTerminal), nil)
			put(dlq.StateParked, item("mail", ""), settled(dlq.ActionPark))
			put(dlq.StateDelivered, item("mail", ""), settled(dlq.ActionKeep))
			look := func(what string) {
				t.Helper()
				now := time.Now()
				for state, id := range states {
					if got := get(t, s, id).State(now); got != state {
						t.Errorf("%s: Get says %s, want %s", what, got, state)
					}
					for _, sink := range []string{"mail", ""} {
						p, err := s.Page(t.Context(), dlq.Query{Sink: sink, State: state})
						if err != nil || len(p.Items) != 1 || p.Items[0].ID != id || p.Items[0].State(now) != state || p.Scanned != len(states) {
							t.Errorf("%s: the page of %s in sink %q is %v, %v", what, state, sink, p, err)
						}
					}
				}
				want := map[dlq.State]int64{}
				for state := range states {
					want[state] = 1
				}
				if got := stats(t, s, "mail").States; !maps.Equal(got, want) {
					t.Errorf("%s: Stats counts %v, want %v", what, got, want)
				}
			}
			look("at rest")
			was := states[dlq.StateParked]
			l := claimOne(t, s, was)
			if got := l.Item.State(time.Now()); got != dlq.StateParked {
				t.Errorf("a claimed item is %s, want parked, as before", got)
			}
			delete(states, dlq.StateParked)
			states[dlq.StateReplaying] = was
			look("while one is replayed")
			if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
				t.Fatal(err)
			}
			delete(states, dlq.StateReplaying)
			states[dlq.StateParked] = was
			look("after its release")
			due, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Hour})
			if err != nil || len(due) != 1 || due[0].ID != states[dlq.StateDue] {
				t.Errorf("Claim = %v, %v; want what is due, and nothing else", due, err)
			}
		},
	},
	{
		Name: "stats tell the queue's ends",
		Rule: "Stats tells oldest, newest and depth; all are zero for a sink that nobody knows",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			if got := stats(t, s, "mail"); !reflect.DeepEqual(got, dlq.Stats{States: map[dlq.State]int64{}}) {
				t.Errorf("Stats of nothing = %+v", got)
			}
			all := fill(t, s, "mail", 3)
			st := stats(t, s, "mail")
			newest, _ := dlq.ParseID(all[2].ID)
			if st.NewestID != newest.Native || st.Depth != 3 || st.Remaining != 3 {
				t.Errorf("Stats = %+v, want newest %s", st, newest.Native)
			}
			if age := time.Since(st.OldestAt); age < -time.Minute || age > time.Minute {
				t.Errorf("oldest at %s, want about now", st.OldestAt)
			}
		},
	},
	{
		Name: "groups count what failed alike",
		Rule: "each dead letter counts in the group of its reason and fingerprint until it is removed",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			failed := func(sink, id, lastError string, r dlq.Reason) dlq.Item {
				it := withReason(item(sink, id), r)
				it.LastError = lastError
				return add(t, s, it)
			}
			failed("mail", "a", "HTTP 503: try in 17 s", dlq.ReasonExhausted)
			gone := failed("mail", "b", "HTTP 503: try in 4 s", dlq.ReasonExhausted)
			failed("mail", "c", "HTTP 503: try in 9 s", dlq.ReasonDeadline)
			failed("chat", "d", "HTTP 503: try in 1 s", dlq.ReasonExhausted)
			last := failed("chat", "e", "a|b\n c", "odd|reason")
			fp := dlq.Fingerprint("HTTP 503: try in 1 s")
			check := func(sink string, want ...dlq.Group) {
				t.Helper()
				got, err := s.Groups(t.Context(), sink)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got, onlyCounts); diff != "" {
					t.Errorf("Groups(%q) (-want +got):\n%s", sink, diff)
				}
			}
			check(
				"",
				dlq.Group{Sink: "mail", Reason: dlq.ReasonExhausted, Fingerprint: fp, Count: 2},
				dlq.Group{Sink: "chat", Reason: dlq.ReasonExhausted, Fingerprint: fp, Count: 1},
				dlq.Group{Sink: "chat", Reason: "odd|reason", Fingerprint: "a|b c", Count: 1},
				dlq.Group{Sink: "mail", Reason: dlq.ReasonDeadline, Fingerprint: fp, Count: 1},
			)
			if err := s.Discard(t.Context(), gone.ID); err != nil {
				t.Fatal(err)
			}
			settleOne(t, s, last.ID, dlq.Settlement{Action: dlq.ActionDiscard})
			check(
				"",
				dlq.Group{Sink: "chat", Reason: dlq.ReasonExhausted, Fingerprint: fp, Count: 1},
				dlq.Group{Sink: "mail", Reason: dlq.ReasonDeadline, Fingerprint: fp, Count: 1},
				dlq.Group{Sink: "mail", Reason: dlq.ReasonExhausted, Fingerprint: fp, Count: 1},
			)
			check("chat", dlq.Group{Sink: "chat", Reason: dlq.ReasonExhausted, Fingerprint: fp, Count: 1})
			got, err := s.Groups(t.Context(), "nobody")
			if err != nil || got == nil || len(got) != 0 {
				t.Errorf("Groups(nobody) = %v, %v; want none", got, err)
			}
		},
	},
	{
		Name: "groups are bounded",
		Rule: "dead letters beyond MaxGroups groups are counted together, and can be listed by FingerprintOther",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			batch := make([]dlq.Item, dlq.MaxGroups+5)
			for i := range batch {
				batch[i] = item("mail", fmt.Sprint(i))
				batch[i].LastError = word(i)
			}
			stored, errs := s.AddBatch(t.Context(), batch)
			if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
				t.Fatal(errs)
			}
			groups, err := s.Groups(t.Context(), "mail")
			if err != nil {
				t.Fatal(err)
			}
			if len(groups) != dlq.MaxGroups+1 || groups[0].Fingerprint != dlq.FingerprintOther || groups[0].Count != 5 {
				t.Fatalf("%d groups, the first %+v; want %d and 5 others", len(groups), groups[0], dlq.MaxGroups+1)
			}
			p, err := s.Page(t.Context(), dlq.Query{Sink: "mail", Fingerprint: dlq.FingerprintOther})
			if err != nil || len(p.Items) != 5 {
				t.Errorf("Page of the others = %d items, %v; want 5", len(p.Items), err)
			}
			for _, it := range stored[len(stored)-5:] {
				if err := s.Discard(t.Context(), it.ID); err != nil {
					t.Fatal(err)
				}
			}
			groups, err = s.Groups(t.Context(), "mail")
			if err != nil || len(groups) != dlq.MaxGroups {
				t.Errorf("%d groups, %v; want %d", len(groups), err, dlq.MaxGroups)
			}
		},
	},
}

// word spells i with letters that no mask touches.
func word(i int) string {
	s := "w"
	for ; i > 0; i /= 10 {
		s += string("ghijklmnop"[i%10])
	}
	return s
}

// claimOne leases one item by its id.
func claimOne(t *T, s dlq.Store, id string) dlq.Leased {
	t.Helper()
	l, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{id}, TTL: time.Hour})
	if err != nil || len(l) != 1 {
		t.Fatalf("Claim(%s) = %v, %v; want one", id, l, err)
	}
	return l[0]
}
