// Package app is the composition root: it turns the environment into everything that a
// function needs.
package app

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/redis/go-redis/v9"

	"backstop/internal/awsconf"
	"backstop/internal/observe"
	"backstop/lib/config"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/journal"
	"backstop/lib/redisclient"
	"backstop/lib/replay"
)

// initFetch bounds the first reading of the sink configuration: a function has 10 s to
// start, and one that starts without its configuration answers 503 and recovers.
const initFetch = 3 * time.Second

// App is what functions share. It is safe for concurrent use.
type App struct {
	Env      Env
	Log      *slog.Logger
	Metrics  *observe.Metrics // of all invocations of the process
	Out      io.Writer        // takes the metrics
	Config   *config.Cache
	Queue    dlq.Store
	Records  delivery.Store
	Sender   *delivery.Sender
	Canceler *delivery.Canceler
	Engine   *replay.Engine
	Gate     *flow.Gate // what all processes together may send

	hangUp func() // nil: there are no connections

	trimMu  sync.Mutex
	trimmed map[string]int // by sink, since the last report
}

// New reads the environment and connects nothing yet but the sink configuration, which
// is read for a few seconds at most. A bad environment is SINK_CONFIG_INVALID with all
// its faults; the App is then good for Close and Log only.
func New(ctx context.Context) (*App, error) {
	hideUnasked()
	env, err := environment()
	a := &App{Env: env, Log: observe.NewLogger(env.Service), Metrics: observe.NewMetrics(env.Service, env.SinkMetrics), Out: os.Stdout}
	if err == nil {
		err = a.compose()
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "cannot work", "error", err.Error())
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, initFetch)
	defer cancel()
	if _, err := a.Config.Get(ctx); err != nil {
		a.Log.ErrorContext(ctx, "sink configuration not read at start", "error", err.Error())
	}
	return a, nil
}

func (a *App) compose() error {
	loadAWS := sync.OnceValues(func() (aws.Config, error) {
		// Reads the platform's environment.
		return awsconf.Environment(context.Background()) //nolint:forbidigo // outlives any invocation
	})
	options := config.Options{TTL: a.Env.SinksTTL, Logger: a.Log}
	if cfg, err := loadAWS(); err == nil {
		options.SSM = ssm.NewFromConfig(cfg)
	} else if a.Env.Sinks.SSM() {
		return &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "AWS configuration", Cause: err}
	}
	setUpKinds(a.Env.Proxy, loadAWS)
	a.Config = config.NewCache(a.Env.Sinks, options)

	bucket := newBucket(a.Env, loadAWS)
	var queueOptions []dlq.Option
	if bucket != nil {
		queueOptions = append(queueOptions, dlq.WithJournal())
	}
	var operations replay.OperationStore
	a.Gate = &flow.Gate{Log: a.Log, Observer: counter{a.Metrics}}
	if a.Env.RedisURL == nil {
		a.Queue, a.Records = dlq.NewMemory(queueOptions...), delivery.NewMemory(a.Env.IdempotencyTTL)
		a.Gate.Store = &flow.Memory{Pause: a.pausedInMemory}
		operations = replay.NewMemoryOperations()
	} else {
		client, connections, err := redisclient.New(redisOptions(a.Env, loadAWS))
		if err != nil {
			return &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "environment: BACKSTOP_REDIS_URL", Cause: err}
		}
		redis.SetLogger(connections.Logger(a.Log)) // every line of a function's output is JSON
		a.hangUp = connections.HangUp
		overflow := dlq.OverflowReject
		if a.Env.DLQOverflow == "trim" {
			overflow = dlq.OverflowTrim
		}
		a.Queue = dlq.NewRedis(client, append(queueOptions, dlq.WithKeyPrefix(a.Env.KeyPrefix), dlq.WithMaxLen(a.Env.DLQMaxLen),
			dlq.WithOverflow(overflow), dlq.WithOnTrim(a.noteTrimmed), dlq.WithSinks(a.Config.Names), dlq.WithShards(a.Config.Shards))...)
		a.Records = delivery.NewRedis(client, a.Env.KeyPrefix, a.Env.IdempotencyTTL)
		operations = replay.NewRedisOperations(client, a.Env.KeyPrefix)
		a.Gate.Store = flow.NewRedis(client, a.Env.KeyPrefix)
	}
	var keeper *journal.Keeper
	if bucket != nil {
		keeper = &journal.Keeper{Queue: a.Queue, Bucket: bucket, MaxLen: max(a.Env.DLQMaxLen, 0), Log: a.Log}
		a.Queue = journal.NewQueue(a.Queue, bucket, journal.Options{
			KeepFull: a.Env.DLQOverflow != "spill", Log: a.Log,
			OnSpill: func(sink string, n int) { a.Metrics.Add(observe.Spilled, sink, float64(n)) },
		})
	}
	a.Sender = &delivery.Sender{
		// Dead letters that come together are pushed in one call.
		Targets: a, Queue: dlq.NewBatcher(a.Queue), Records: a.Records, Gate: a.Gate, Paused: a.Gate.Paused,
		Observer: counter{a.Metrics}, Log: a.Log, Reserve: a.Env.Reserve, MaxBytes: a.Env.MaxBodyBytes,
	}
	if q := newRequestQueue(a.Env.QueueURL, loadAWS); q != nil {
		a.Sender.Requests = q
	}
	a.Canceler = &delivery.Canceler{Records: a.Records, Letters: a.Queue, Spills: bucket != nil, Log: a.Log, Reserve: a.Env.Reserve}
	a.Engine = &replay.Engine{
		MaxBytes: a.Env.MaxBodyBytes,
		Store:    a.Queue, Targets: a, Operations: operations, Gate: a.Gate, Records: a.Records,
		Observer: counter{a.Metrics}, Log: a.Log, Reserve: a.Env.Reserve, Concurrency: a.Env.Concurrency,
		Replayers: a.Env.Replayers,
	}
	events := &delivery.Eventer{Sender: a.Sender, Service: a.Env.Service, Observer: counter{a.Metrics}}
	a.Sender.Events, a.Canceler.Events, a.Engine.Events = events, events, events
	if keeper != nil {
		keeper.Back, a.Engine.Journal = a.Engine.BringBack, keeper
	}
	return nil
}

// pausedInMemory asks the queue, where no Redis has both.
func (a *App) pausedInMemory(ctx context.Context, sink string) (bool, error) {
	s, err := a.Queue.Stats(ctx, sink)
	return s.Paused, err
}

func (a *App) noteTrimmed(sink string, n int) {
	a.trimMu.Lock()
	defer a.trimMu.Unlock()
	if a.trimmed == nil {
		a.trimmed = map[string]int{}
	}
	a.trimmed[sink] += n
}

func (a *App) reportTrimmed(ctx context.Context) {
	a.trimMu.Lock()
	trimmed := a.trimmed
	a.trimmed = nil
	a.trimMu.Unlock()
	for sink, n := range trimmed {
		a.Metrics.Add(observe.Trimmed, sink, float64(n))
		a.Log.WarnContext(ctx, "dead letters trimmed by overflow", "sink", sink, "trimmed", n)
	}
}

// Close closes the connections. Nothing depends on it, and what is asked for later opens
// them again.
func (a *App) Close() {
	if a.hangUp != nil {
		a.hangUp()
	}
}

// Target implements delivery.Targets. The errors are those of config.Cache.Sink.
func (a *App) Target(ctx context.Context, name string) (delivery.Target, error) {
	s, err := a.Config.Sink(ctx, name)
	if err != nil {
		return delivery.Target{}, err
	}
	return delivery.Target{
		Sink: s.Sink, Retry: s.Retry, Replay: s.Replay, Flow: s.Flow, ConfigErr: s.Err,
		Hold: s.FIFO == config.FIFOHold, MaxAge: s.MaxAge, Retention: s.Retention, Events: s.Events,
	}, nil
}

// Names implements delivery.Targets.
func (a *App) Names(ctx context.Context) ([]string, error) {
	snapshot, err := a.Config.Get(ctx)
	if err != nil {
		return nil, err
	}
	return snapshot.Names(), nil
}
