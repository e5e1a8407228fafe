package dlq_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// asOlder makes an entry what an older version would have made of its push: without the
// fingerprint of its content, under another native id. It returns the item's new id.
func asOlder(t *testing.T, c redis.UniversalClient, s prefixed, it dlq.Item) string {
	t.Helper()
	ctx, stream := t.Context(), s.prefix+":dlq:mail"
	native := strings.TrimPrefix(it.ID, "mail~")
	found, err := c.XRange(ctx, stream, native, native).Result()
	if err != nil || len(found) != 1 {
		t.Fatalf("XRANGE = %v, %v", found, err)
	}
	v := found[0].Values
	if err := c.XDel(ctx, stream, native).Err(); err != nil {
		t.Fatal(err)
	}
	id, err := c.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"item", v["item"], "k", v["k"], "g", v["g"], "n", v["n"]}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	k, ok := v["k"].(string)
	if !ok {
		t.Fatalf("push key %v", v["k"])
	}
	if err := c.HSet(ctx, "{"+stream+"}:ids", k, id).Err(); err != nil {
		t.Fatal(err)
	}
	return "mail~" + id
}

// TestEntriesOfAnOlderVersionAreComparedByReadingThem: they do not tell their content.
func TestEntriesOfAnOlderVersionAreComparedByReadingThem(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	ctx := t.Context()
	one, two := message("mail", "a"), message("mail", "a")
	one.Recipient, two.Recipient = []byte(`{"id":9007199254740992,"b": 1}`), []byte(`{"id":9007199254740993,"b": 1}`)
	print1 := dlq.ContentFingerprint(one.Recipient, one.Message.Subject, one.Message.Body, one.Message.Metadata)
	print2 := dlq.ContentFingerprint(two.Recipient, two.Message.Subject, two.Message.Body, two.Message.Metadata)
	old := asOlder(t, c, s, mustAdd(t, s, one))
	for range 2 {
		if it := mustAdd(t, s, one); it.ID != old {
			t.Errorf("the same content got id %s, want %s", it.ID, old)
		}
	}
	if it, err := s.Find(ctx, "mail", "a", print1); err != nil || it.ID != old {
		t.Errorf("Find = %s, %v; want %s", it.ID, err, old)
	}
	if it, err := s.Find(ctx, "mail", "a", print2); fault.CodeOf(err) != fault.CodeDLQNotFound {
		t.Errorf("Find of what was not pushed = %s, %v", it.ID, err)
	}
	stored, errs := s.AddBatch(ctx, []dlq.Item{two, one, two, message("mail", "b")})
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Fatal(errs)
	}
	if stored[0].ID == old || stored[0].ID != stored[2].ID || stored[1].ID != old || stored[3].DeliveryID != "b" {
		t.Errorf("stored %s, %s, %s, %s; want a new one, %s, the new one, another", stored[0].ID, stored[1].ID, stored[2].ID, stored[3].ID, old)
	}
	for print, id := range map[string]string{print1: old, print2: stored[0].ID, "": stored[0].ID} {
		if it, err := s.Find(ctx, "mail", "a", print); err != nil || it.ID != id {
			t.Errorf("Find(%q) = %s, %v; want %s", print, it.ID, err, id)
		}
	}
	if err := s.Discard(ctx, old); err != nil {
		t.Fatal(err)
	}
	if it := mustAdd(t, s, two); it.ID != stored[0].ID {
		t.Errorf("the other content got id %s, want %s", it.ID, stored[0].ID)
	}
	if it := mustAdd(t, s, one); it.ID == old {
		t.Error("the discarded entry was taken for the new one")
	}
	// One that cannot be read is nobody's content.
	third := message("mail", "c")
	id := asOlder(t, c, s, mustAdd(t, s, third))
	native := strings.TrimPrefix(id, "mail~")
	found, err := c.XRange(ctx, s.prefix+":dlq:mail", native, native).Result()
	if err != nil {
		t.Fatal(err)
	}
	v := found[0].Values
	bad, err := c.XAdd(ctx, &redis.XAddArgs{Stream: s.prefix + ":dlq:mail", Values: []any{"item", "?", "k", v["k"], "g", v["g"], "n", v["n"]}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	k, ok := v["k"].(string)
	if !ok {
		t.Fatalf("push key %v", v["k"])
	}
	if err := c.HSet(ctx, "{"+s.prefix+":dlq:mail}:ids", k, bad).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.XDel(ctx, s.prefix+":dlq:mail", native).Err(); err != nil {
		t.Fatal(err)
	}
	if it := mustAdd(t, s, dlq.Item{Sink: "mail", DeliveryID: "c", Reason: dlq.ReasonExhausted, LastError: "HTTP 503"}); it.ID == "mail~"+bad {
		t.Error("an empty message was taken for an entry that cannot be read")
	}
	if err := s.Discard(ctx, "mail~"+bad); err != nil {
		t.Fatal(err)
	}
	// Others added and removed entries: of the groups' counts nobody knew.
	mended(t, c, s, false)
}

// TestALetterThatAnOlderVersionKeptIsNotTakenForTheNewFailure: it leaves the entry under its
// push key where that leads to several.
func TestALetterThatAnOlderVersionKeptIsNotTakenForTheNewFailure(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	ctx := t.Context()
	one, two := message("mail", "a"), message("mail", "a")
	two.Message.Body = "two"
	mustAdd(t, s, one)
	kept := mustAdd(t, s, two)
	ids := "{" + s.prefix + ":dlq:mail}:ids"
	before, err := c.HGetAll(ctx, ids).Result()
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{kept.ID}, TTL: time.Minute})
	if err != nil || len(l) != 1 {
		t.Fatalf("Claim = %d, %v", len(l), err)
	}
	if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: l[0].Lease, Action: dlq.ActionKeep}}); err != nil {
		t.Fatal(err)
	}
	for k, v := range before {
		if err := c.HSet(ctx, ids, k, v).Err(); err != nil {
			t.Fatal(err)
		}
	}
	print := dlq.ContentFingerprint(two.Recipient, two.Message.Subject, two.Message.Body, two.Message.Metadata)
	if it, err := s.Find(ctx, "mail", "a", print); fault.CodeOf(err) != fault.CodeDLQNotFound {
		t.Errorf("Find = %s, %v; want nothing that waits", it.ID, err)
	}
	if it := mustAdd(t, s, two); it.ID == kept.ID {
		t.Error("the new failure was taken for the delivered one")
	}
	mended(t, c, s, false)
}
