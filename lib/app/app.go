// Package app is the composition root: it turns the environment into everything that a
// function needs.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/redis/go-redis/v9"

	"backstop/lib/awsconf"
	"backstop/lib/config"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/observe"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// initFetch bounds the first reading of the sink configuration: a function has 10 s to
// start, and one that starts without its configuration answers 503 and recovers.
const initFetch = 3 * time.Second

// App is what functions share. It is safe for concurrent use.
type App struct {
	Env     Env
	Log     *slog.Logger
	Config  *config.Cache
	Queue   dlq.Store
	Records delivery.Store
	Engine  *replay.Engine

	hangUp  func()   // nil: there are no connections
	targets sync.Map // *config.Sink -> Target
	pauses  pauses
	letters dlq.DLQ // Queue, with pushes that come together in one call

	trimMu  sync.Mutex
	trimmed map[string]int // by sink, since the last report
}

// Target is a configured sink, ready to deliver.
type Target struct {
	*config.Sink
	// Retrier dead-letters into the app's queue.
	Retrier *retry.Retrier
	// ConfigErr says what is wrong with the sink's configuration; nil when it can
	// send. Its deliveries are dead-lettered without an attempt.
	ConfigErr error
	// Paused says that an operator has paused the sink, as of two seconds ago at most.
	// Its deliveries are dead-lettered without an attempt.
	Paused bool
	// Hold says that a failure which may pass holds up the rest of its FIFO message group,
	// as long as the queue hands it out again (fifo: hold).
	Hold bool
}

// New reads the environment and connects nothing yet but the sink configuration, which
// is read for a few seconds at most. A bad environment is SINK_CONFIG_INVALID with all
// its faults; the App is then good for Close and Log only.
func New(ctx context.Context) (*App, error) {
	hideUnasked()
	env, err := environment()
	a := &App{Env: env, Log: observe.NewLogger(env.Service)}
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
		// Reads the platform's environment; no I/O but a credentials file.
		return awsconf.Load(context.Background()) //nolint:forbidigo // outlives any invocation
	})
	options := config.Options{TTL: a.Env.SinksTTL, Logger: a.Log}
	if cfg, err := loadAWS(); err == nil {
		options.SSM = ssm.NewFromConfig(cfg)
	} else if a.Env.Sinks.SSM() {
		return &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "AWS configuration", Cause: err}
	}
	useProxy(a.Env.Proxy)
	a.Config = config.NewCache(a.Env.Sinks, options)

	var operations replay.OperationStore
	if a.Env.RedisURL == nil {
		a.Queue, a.Records = dlq.NewMemory(), delivery.NewMemory(a.Env.IdempotencyTTL)
		operations = replay.NewMemoryOperations()
	} else {
		client, secrets, dialer, err := redisClient(a.Env, loadAWS)
		if err != nil {
			return &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "environment", Cause: err}
		}
		redis.SetLogger(redisLog{a.Log, secrets})
		a.hangUp = dialer.HangUp
		overflow := dlq.OverflowReject
		if a.Env.DLQOverflow == "trim" {
			overflow = dlq.OverflowTrim
		}
		a.Queue = dlq.NewRedis(client, dlq.WithKeyPrefix(a.Env.KeyPrefix), dlq.WithMaxLen(a.Env.DLQMaxLen),
			dlq.WithOverflow(overflow), dlq.WithOnTrim(a.noteTrimmed), dlq.WithSinks(a.Config.Names))
		a.Records = delivery.NewRedis(client, a.Env.KeyPrefix, a.Env.IdempotencyTTL)
		operations = replay.NewRedisOperations(client, a.Env.KeyPrefix)
	}
	a.pauses.stats, a.letters = a.Queue, dlq.NewBatcher(a.Queue)
	a.Engine = &replay.Engine{
		Store: a.Queue, Targets: replayTargets{a}, Operations: operations, Records: a.Records, Observer: replayObserver{}, Log: a.Log,
		Reserve: a.Env.Reserve, Concurrency: a.Env.Concurrency,
	}
	return nil
}

func (a *App) noteTrimmed(sink string, n int) {
	a.trimMu.Lock()
	defer a.trimMu.Unlock()
	if a.trimmed == nil {
		a.trimmed = map[string]int{}
	}
	a.trimmed[sink] += n
}

// Report adds what is counted outside single deliveries to m: dead letters that an
// overflowing queue lost since the last report, and the age of the configuration or that
// there is none. Something that never existed has no age, and an alarm on age stays silent.
func (a *App) Report(ctx context.Context, m *observe.Metrics) {
	a.reportTrimmed(ctx, m)
	age := a.Config.Age()
	if age < 0 {
		m.Add(observe.ConfigMissing, "", 1)
		return
	}
	m.Add(observe.ConfigMissing, "", 0)
	m.Add(observe.ConfigAge, "", age.Seconds())
}

func (a *App) reportTrimmed(ctx context.Context, m *observe.Metrics) {
	a.trimMu.Lock()
	trimmed := a.trimmed
	a.trimmed = nil
	a.trimMu.Unlock()
	for sink, n := range trimmed {
		m.Add(observe.Trimmed, sink, float64(n))
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

// Target returns the sink called name. The errors are those of config.Cache.Sink; a
// sink whose own configuration is wrong is no error but has ConfigErr set.
func (a *App) Target(ctx context.Context, name string) (Target, error) {
	s, err := a.Config.Sink(ctx, name)
	if err != nil {
		return Target{}, err
	}
	t := a.target(s)
	t.Paused = a.pauses.paused(ctx, name)
	return t, nil
}

// target returns what is made of a configured sink, the same until it changes.
func (a *App) target(s *config.Sink) Target {
	if t, ok := a.targets.Load(s); ok {
		return t.(Target) //nolint:errcheck // the map holds nothing else
	}
	t := Target{Sink: s, ConfigErr: s.Err, Hold: s.FIFO == config.FIFOHold}
	inner := s.Sink
	if inner == nil {
		inner = broken{name: s.Name, err: s.Err}
	}
	t.Retrier = retry.NewRetrier(inner, s.Retry, a.letters)
	t.Retrier.Reserve, t.Retrier.Logger = a.Env.Reserve, a.Log
	a.targets.Range(func(k, v any) bool { // forget what this one replaces
		if old, ok := k.(*config.Sink); ok && old.Name == s.Name {
			a.targets.Delete(k)
		}
		return true
	})
	a.targets.Store(s, t)
	return t
}

// broken stands for a sink that cannot be built.
type broken struct {
	name string
	err  error
}

func (b broken) Name() string { return b.name }

func (b broken) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(fmt.Errorf("sink %q: %w", b.name, b.err))
}
