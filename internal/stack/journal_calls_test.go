//go:build full

package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/uuid"

	"backstop/internal/moto"
	"backstop/lib/dlq"
	"backstop/lib/journal"
	"backstop/lib/sinks"
)

// journaled is the stack's bucket in an emulator, behind a recorder.
type journaled struct {
	stack stack
	rec   *recorder
	aws   string
	queue *dlq.Memory
}

func newJournaled(t *testing.T) *journaled {
	t.Helper()
	endpoint := moto.Start(t)
	j := &journaled{stack: resolve(t, createdCache), rec: newRecorder()}
	deploy(t, endpoint, j.stack)
	// The emulator makes buckets without the versions that a template asks for.
	operator := s3.New(s3.Options{Region: region, BaseEndpoint: &endpoint, UsePathStyle: true, Credentials: key("operator")})
	if _, err := operator.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket:                  aws.String(text(j.stack.attribute("Bucket", "Ref"))),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatus(text(at(j.stack.Resources["Bucket"].Properties, "VersioningConfiguration", "Status")))},
	}); err != nil {
		t.Fatal(err)
	}
	j.aws = j.rec.before(t, endpoint)
	j.queue = dlq.NewMemory(dlq.WithJournal(), dlq.WithMaxLen(3), dlq.WithOverflow(dlq.OverflowReject))
	return j
}

// bucket opens the journal as a function does.
func (j *journaled) bucket(t *testing.T, function string) journal.Bucket {
	t.Helper()
	b, err := journal.Open(j.stack.environment(function)["BACKSTOP_JOURNAL"], journal.S3Options{AWS: func() (aws.Config, error) {
		return aws.Config{Region: region, BaseEndpoint: &j.aws, Credentials: key(function)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refusing is a bucket that takes nothing below a folder.
type refusing struct {
	journal.Bucket
	folder string
}

func (b refusing) Put(ctx context.Context, name string, body []byte) error {
	if strings.HasPrefix(name, b.folder) {
		return errors.New("denied")
	}
	return b.Bucket.Put(ctx, name, body)
}

// letters are dead letters to Ada and Bob in turn.
func letters(ids ...string) []dlq.Item {
	all := make([]dlq.Item, len(ids))
	for i, id := range ids {
		to := []string{"ada", "bob"}[i%2]
		all[i] = dlq.Item{
			DeliveryID: id, Sink: "mail", At: time.Now(), Attempts: 1, LastError: "HTTP 503", Reason: dlq.ReasonExhausted,
			Recipient: json.RawMessage(`{"address":"` + to + `@example.com"}`), Message: sinks.Message{ID: id, Body: "hello"},
		}
	}
	return all
}

// add pushes dead letters together and returns the ids of those that were stored, empty for spilled ones.
func add(t *testing.T, q dlq.Store, ids ...string) []string {
	t.Helper()
	stored, errs := q.AddBatch(t.Context(), letters(ids...))
	out := make([]string, len(ids))
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", ids[i], err)
		}
		out[i] = stored[i].ID
	}
	return out
}

// settle ends a dead letter, or makes it wait.
func settle(t *testing.T, q dlq.Store, id string, action dlq.Action) {
	t.Helper()
	leased, err := q.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{id}, Force: true, Token: uuid.NewString(), TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatalf("claim of %s: %v, %v", id, leased, err)
	}
	if r, err := q.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: action}}); err != nil || r[0] != dlq.SettleApplied {
		t.Fatalf("%s of %s: %v, %v", action, id, r, err)
	}
}

// A role allows what its function calls of the journal, and nothing more: all that can happen to a
// dead letter there happens once, with the bucket that the template makes. Who may not take back what it wrote, or
// read it, would leave behind a message that its caller sends again.
func TestTheRolesAllowWhatTheJournalCalls(t *testing.T) {
	j := newJournaled(t)
	for i, function := range []string{"SendFunction", "QueueFunction", "DlqApiFunction"} {
		id := func(n int) string { return fmt.Sprintf("d-%d-%d", i, n) }
		q := journal.NewQueue(j.queue, j.bucket(t, function), journal.Options{})
		together := add(t, q, id(1), id(2)) // one object
		for _, item := range together {     // rewritten, then deleted
			if err := q.Discard(t.Context(), item); err != nil {
				t.Fatalf("%s: %v", function, err)
			}
		}
		stored := add(t, q, id(3), id(4), id(5), id(6), id(7)) // three have room
		if it, err := q.Find(t.Context(), "mail", id(7), ""); err != nil || !it.Spilled {
			t.Errorf("%s: what was spilled is %+v, %v", function, it, err)
		}
		back := journal.NewQueue(j.queue, refusing{j.bucket(t, function), "spill/"}, journal.Options{})
		if _, err := back.Add(t.Context(), letters(id(8))[0]); err == nil {
			t.Errorf("%s: neither took it, and it is not handed back", function)
		}
		for _, item := range stored {
			if item != "" {
				settle(t, q, item, dlq.ActionDrop)
			}
		}
		if function == "DlqApiFunction" {
			j.dryRuns(t, q, letters(id(9))[0])
		}
		if found, _, err := j.bucket(t, function).List(t.Context(), "open/mail/", "", 0); err != nil || len(found) != i+1 {
			// That of five letters is left, two of which are spilled.
			t.Errorf("%s: open/ has %v, %v", function, found, err)
		}
		checkActionsOf(t, j.rec, j.stack, function, func(action string) bool { return strings.HasPrefix(action, "s3:") })
	}
	j.keep(t)
	checkActionsOf(t, j.rec, j.stack, "ReplayFunction", func(action string) bool { return strings.HasPrefix(action, "s3:") })
	for _, u := range j.rec.unknown {
		t.Errorf("a call that no right is known for: %s", u)
	}
}

// dryRuns does what the API does with a journal to say what a restore or an erasure would do, while a
// dead letter is parked.
func (j *journaled) dryRuns(t *testing.T, q *journal.Queue, it dlq.Item) {
	t.Helper()
	it, err := q.Add(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	replay := j.bucket(t, "ReplayFunction")
	if err := replay.Put(t.Context(), "state/mail/"+it.Journal, []byte(`{"parked":true}`)); err != nil {
		t.Fatal(err)
	}
	group, _, _ := strings.Cut(it.Journal, ":")
	spilled := "spill/mail/" + group + ".ndjson" // of which there is an old version
	if err := errors.Join(replay.Put(t.Context(), spilled, []byte("null\n")), replay.Delete(t.Context(), spilled)); err != nil {
		t.Fatal(err)
	}
	k := &journal.Keeper{Queue: j.queue, Bucket: j.bucket(t, "DlqApiFunction")}
	if p, err := k.Restore(t.Context(), "mail", journal.RestoreStep{DryRun: true}); err != nil || p.Present == 0 {
		t.Errorf("dry run of a restore: %+v, %v", p, err)
	}
	if p, err := k.Erase(t.Context(), "mail", func(json.RawMessage) bool { return false }, ""); err != nil || !p.Done {
		t.Errorf("dry run of an erasure: %+v, %v", p, err)
	}
	settle(t, q, it.ID, dlq.ActionDrop)
}

// keep does what the replay function does with a journal.
func (j *journaled) keep(t *testing.T) {
	t.Helper()
	b := j.bucket(t, "ReplayFunction")
	k := &journal.Keeper{Queue: j.queue, Bucket: b, MaxLen: 3}
	q := journal.NewQueue(j.queue, b, journal.Options{})
	tick := func() journal.Report {
		t.Helper()
		if names, err := k.Sinks(t.Context()); err != nil || len(names) != 1 {
			t.Fatalf("sinks %v, %v", names, err)
		}
		r, err := k.Tick(t.Context(), "mail")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := tick(); r.Returned == 0 {
		t.Errorf("nothing came back from spill/: %+v", r)
	}
	items, err := q.Items(t.Context(), "mail", 0)
	if err != nil || len(items) == 0 {
		t.Fatalf("the queue has %v, %v", items, err)
	}
	settle(t, q, items[0].ID, dlq.ActionPark)
	if r := tick(); r.States != 1 {
		t.Errorf("what is parked is not written: %+v", r)
	}
	settle(t, q, items[0].ID, dlq.ActionDiscard)
	settle(t, q, items[1].ID, dlq.ActionDiscard)
	add(t, journal.NewQueue(j.queue, refusing{b, "open/"}, journal.Options{}), "unjournaled")
	if r := tick(); r.Written != 1 {
		t.Errorf("what was not journaled is not written: %+v", r)
	}
	// A cache that was wiped gets back what the journal has.
	k.Queue = dlq.NewMemory(dlq.WithJournal(), dlq.WithMaxLen(3), dlq.WithOverflow(dlq.OverflowReject))
	if p, err := k.Restore(t.Context(), "mail", journal.RestoreStep{}); err != nil || p.Restored == 0 {
		t.Errorf("restore: %+v, %v", p, err)
	}
	if a, err := k.Audit(t.Context(), "mail"); err != nil || a.Lost != 0 || a.Queued == 0 {
		t.Errorf("audit: %+v, %v", a, err)
	}
	p, err := k.Erase(t.Context(), "mail", func(recipient json.RawMessage) bool { return strings.Contains(string(recipient), "ada@") }, "")
	if err != nil || !p.Done || p.Erased == 0 || p.Versions == 0 {
		t.Errorf("erasure: %+v, %v", p, err)
	}
}
