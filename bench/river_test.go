package bench

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

// riverSide retries discarded jobs: what river keeps of work that failed for good.
type riverSide struct {
	pool   *pgxpool.Pool
	insert *river.Client[pgx.Tx] // with river's default settings; it works nothing
	post   func(raw []byte) error

	// Of a round:
	ids       []int64
	client    *river.Client[pgx.Tx]
	events    <-chan *river.Event
	posted    chan struct{}
	arrivedIn []float64 // µs each, of every round
}

// newRiver returns a side on a PostgreSQL of its own. Without post, jobs can only be
// discarded.
func newRiver(b *testing.B, post func(raw []byte) error) *riverSide {
	b.Helper()
	s := &riverSide{pool: startPostgres(b), post: post}
	driver := riverpgxv5.New(s.pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: riverLog})
	ok(b, err)
	_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
	ok(b, err)
	s.insert, err = river.NewClient(driver, &river.Config{Logger: riverLog})
	ok(b, err)
	return s
}

// riverLog costs river nothing.
var riverLog = slog.New(slog.DiscardHandler)

// riverLetter is a job's arguments: the JSON of a dead letter.
type riverLetter struct{ json.RawMessage }

func (riverLetter) Kind() string { return "dead-letter" }

// once has a job discarded when it fails. A retry allows it one more attempt.
var once = &river.InsertOpts{MaxAttempts: 1}

// riverWorker fails the first attempt of a job, and posts what is retried.
type riverWorker struct {
	river.WorkerDefaults[riverLetter]
	post    func(raw []byte) error
	posted  chan<- struct{}
	failure error
}

func (w *riverWorker) Work(_ context.Context, j *river.Job[riverLetter]) error {
	if j.Attempt == 1 {
		return w.failure
	}
	err := w.post(j.Args.RawMessage)
	w.posted <- struct{}{}
	return err
}

// start starts a client that works n jobs. It looks for jobs as often as river allows, since
// a retry notifies nobody; longer intervals made it slower. Notifications stay on, and
// jobs that are done are written in batches, both as by default. It never leads, for a
// leader's maintenance has nothing to do here.
func (s *riverSide) start(b *testing.B, n int) {
	b.Helper()
	s.posted = make(chan struct{}, n)
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{post: s.post, posted: s.posted, failure: errors.New(letter("ops", 0).LastError)})
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: replayAt}}, Workers: workers,
		FetchCooldown: river.FetchCooldownMin, FetchPollInterval: river.FetchPollIntervalMin,
		LeaderElectionDisabled: true, Logger: riverLog,
	})
	ok(b, err)
	s.client = client
	s.events, _ = client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: n, Kinds: []river.EventKind{river.EventKindJobCompleted, river.EventKindJobFailed},
	})
	b.Cleanup(func() { _ = client.StopAndCancel(context.Background()) }) // of a benchmark that fails
	ok(b, client.Start(context.Background()))
}

func (s *riverSide) stop(b *testing.B) {
	b.Helper()
	ok(b, s.client.Stop(context.Background()))
}

// await waits until n jobs have come to a state, and the database says so.
func (s *riverSide) await(b *testing.B, state rivertype.JobState, n int) {
	b.Helper()
	for range n {
		if e := <-s.events; e.Job.State != state {
			b.Fatalf("job %d is %s, want %s: %v", e.Job.ID, e.Job.State, state, e.Job.Errors)
		}
	}
}

// discard starts a client, and has it fail the n jobs that were inserted.
func (s *riverSide) discard(b *testing.B, n int) {
	b.Helper()
	s.start(b, n)
	s.await(b, rivertype.JobStateDiscarded, n)
	_, err := s.pool.Exec(context.Background(), "VACUUM (ANALYZE) river_job")
	ok(b, err)
}

func (s *riverSide) store(b *testing.B, round, n int) {
	b.Helper()
	jobs := make([]river.InsertManyParams, n)
	for i := range jobs {
		raw, err := json.Marshal(letter("ops", round*n+i))
		ok(b, err)
		jobs[i] = river.InsertManyParams{Args: riverLetter{raw}, InsertOpts: once}
	}
	inserted, err := s.insert.InsertMany(context.Background(), jobs)
	ok(b, err)
	s.ids = s.ids[:0]
	for _, r := range inserted {
		s.ids = append(s.ids, r.Job.ID)
	}
	// The client stays: its start is no part of a retry.
	s.discard(b, n)
}

// work retries each job by its id, for river has no call that retries many. river's web page
// does so one after the other in a transaction, which takes half as long again: nothing is
// worked before the last is retried.
func (s *riverSide) work(b *testing.B, n int) func() {
	b.Helper()
	start := time.Now()
	ids := make(chan int64, n)
	for _, id := range s.ids {
		ids <- id
	}
	close(ids)
	var wg sync.WaitGroup
	for range replayAt {
		wg.Go(func() {
			for id := range ids {
				if _, err := s.client.JobRetry(context.Background(), id); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range n {
		<-s.posted
	}
	s.arrivedIn = append(s.arrivedIn, float64(time.Since(start).Microseconds())/float64(n))
	s.await(b, rivertype.JobStateCompleted, n)
	return func() { s.stop(b) }
}
