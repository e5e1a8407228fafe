package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/internal/locals3"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/journal"
	"backstop/lib/replay"
)

// lettersToRestore bounds BenchmarkJournalRestore: a million take 1.7 GB of the disk, as much memory for
// each bucket that is in memory, and 2 GB of a Redis.
var lettersToRestore = flag.Int("letters", 100_000, "how many dead letters BenchmarkJournalRestore brings back")

// BenchmarkJournalRestore restores dead letters of 1 KB into a queue that was wiped, and audits them, in the
// real replay function, as bulk operations, from a folder and from S3.
func BenchmarkJournalRestore(b *testing.B) {
	n := *lettersToRestore
	b.Run("folder", func(b *testing.B) { restoreAndAudit(b, n, "a folder", inFolder(b)) })
	b.Run("s3", func(b *testing.B) { restoreAndAudit(b, n, "an S3 that takes 20 ms", inCloud(b)) })
}

func restoreAndAudit(b *testing.B, n int, from string, p place) {
	b.Helper()
	r := newReceiver(b, 0)
	server := redistest.Start(b)
	env := append([]string{"BACKSTOP_JOURNAL=" + p.spec, "BACKSTOP_DLQ_MAX_LEN=0"}, p.env...)
	f := startFunctions(b, "replay", r.URL, server.URL(), setup{timeout: 15 * time.Minute}, env...)
	idle := resident(b, f.invoke(b, []byte(`{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`)).PID)

	writer := withJournal(everything{}, opened{p.quick})
	together := n / 100 * 96 // the others are alone
	fillBy(b, writer, "ops", 0, together, journal.MaxLines)
	fillBy(b, writer, "ops", together, n, 1)
	progress("%d dead letters are in %s", n, from)

	c := server.Client(b)
	queue := dlq.NewRedis(c, dlq.WithMaxLen(0), dlq.WithJournal())
	engine := &replay.Engine{
		Store: queue, Targets: to{delivery.Target{Sink: &yes{}}}, Operations: replay.NewRedisOperations(c, "backstop"),
		Journal: &journal.Keeper{Queue: queue, Bucket: p.bucket, Log: discard}, Log: discard,
	}
	operation := func(a replay.OperationAction) (op replay.Operation, took, most float64) {
		op, err := engine.CreateOperation(b.Context(), replay.OperationRequest{Action: a})
		ok(b, err)
		start, pid := time.Now(), 0
		for !op.Status.Final() {
			pid = f.invoke(b, fmt.Appendf(nil, `{"operation":%q}`, op.ID)).PID
			op, err = engine.Operation(b.Context(), op.ID)
			ok(b, err)
			progress("%s: %s after %.0f s", a, op.Status, time.Since(start).Seconds())
		}
		return op, time.Since(start).Seconds(), peak(b, pid)
	}
	op, took, most := operation(replay.OperationRestore)
	if got := op.Restore; got == nil || *got != (replay.RestoreCounts{Restored: int64(n)}) {
		b.Fatalf("%s: %+v", op.Error, got)
	}
	what := fmt.Sprintf("restore of %d dead letters of 1 KB from %s", n, from)
	report(b, bound(what+": most memory of replay (baseline: before)", "MiB", most, idle, 64))
	report(b, bound(what, "s", took, none, none))
	report(b, bound("the same", "a second", float64(n)/took, none, none))

	op, took, most = operation(replay.OperationAudit)
	if got := op.Audit; got == nil || *got != (replay.AuditCounts{Letters: int64(n), Queued: int64(n)}) {
		b.Fatalf("%s: %+v", op.Error, got)
	}
	report(b, bound("audit of the same: most memory of replay so far", "MiB", most, none, 64))
	report(b, bound("audit of the same", "s", took, none, none))
}

// everything is a queue that takes all and keeps nothing.
type everything struct{ dlq.Store }

func (everything) AddBatch(_ context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	return items, make([]error, len(items))
}

// opened is a bucket in which nothing is spilled. A process that is held up takes its queue for one that is
// away, and spills besides.
type opened struct{ journal.Bucket }

func (o opened) Put(ctx context.Context, name string, body []byte) error {
	if strings.HasPrefix(name, "spill/") {
		return errors.New("it is in the queue")
	}
	return o.Bucket.Put(ctx, name, body)
}

// place is where a journal is.
type place struct {
	spec   string
	env    []string
	bucket journal.Bucket
	quick  journal.Bucket // for what is not measured
}

func inFolder(b *testing.B) place {
	b.Helper()
	dir := b.TempDir()
	folder := journal.NewFolder(dir)
	return place{spec: "file:" + dir, bucket: folder, quick: quickFolder{folder, dir}}
}

// quickFolder is a folder that waits for no disk.
type quickFolder struct {
	*journal.Folder
	dir string
}

func (f quickFolder) Put(_ context.Context, name string, body []byte) error {
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o600)
}

func inCloud(b *testing.B) place {
	b.Helper()
	service := locals3.New("letters")
	quick := httptest.NewServer(service)
	b.Cleanup(quick.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := pass(r.Context(), 20*time.Millisecond); err != nil {
			return
		}
		service.ServeHTTP(w, r)
	}))
	b.Cleanup(server.Close)
	open := func(url string) journal.Bucket {
		bucket, err := journal.Open("s3://letters/p", journal.S3Options{AWS: func() (aws.Config, error) {
			return aws.Config{Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}, nil
		}})
		ok(b, err)
		return bucket
	}
	return place{
		spec: "s3://letters/p", bucket: open(server.URL), quick: open(quick.URL),
		env: []string{"AWS_ENDPOINT_URL_S3=" + server.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"},
	}
}
