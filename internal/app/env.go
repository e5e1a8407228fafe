package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/internal/loopback"
	"backstop/internal/observe"
	"backstop/internal/redisconn"
	"backstop/lib/config"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/journal"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Env is what a function reads from its environment. docs/configuration.md lists the
// variables.
type Env struct {
	Service string        // BACKSTOP_SERVICE, default "backstop"
	Sinks   config.Source // BACKSTOP_SINKS, required
	// SinksTTL is how long a sink configuration counts as fresh: BACKSTOP_SINKS_TTL.
	SinksTTL time.Duration

	RedisURL      *url.URL     // BACKSTOP_REDIS_URL; nil: memory, only with BACKSTOP_LOCAL
	RedisCluster  bool         // BACKSTOP_REDIS_CLUSTER
	RedisPassword sinks.Secret // BACKSTOP_REDIS_PASSWORD
	// RedisParameter is the SSM parameter that holds the password instead:
	// BACKSTOP_REDIS_PASSWORD as ssm:/parameter.
	RedisParameter string
	RedisIAMUser   string   // BACKSTOP_REDIS_IAM_USER
	RedisIAMCache  iamCache // BACKSTOP_REDIS_IAM_CACHE
	KeyPrefix      string   // BACKSTOP_KEY_PREFIX, default "backstop"

	DLQMaxLen int // BACKSTOP_DLQ_MAX_LEN per sink, default 100,000; 0 or less: no cap
	// DLQOverflow is what becomes of a dead letter that a full queue does not take:
	// BACKSTOP_DLQ_OVERFLOW, "spill" (default with a journal), "reject" (default without) or "trim".
	DLQOverflow string
	// Journal is where dead letters are kept as well: BACKSTOP_JOURNAL. Zero: nowhere.
	Journal journal.Location

	// Reserve is the time kept before the deadline for the dead-letter write and the
	// answer: BACKSTOP_RESERVE, default 1 s.
	Reserve time.Duration
	// Concurrency is how many deliveries one invocation makes at once:
	// BACKSTOP_CONCURRENCY, default 50.
	Concurrency int
	// QueueURL is the SQS queue that requests are put on which are to be delivered later, or
	// answered at once: BACKSTOP_QUEUE_URL. Nil: there is none.
	QueueURL *url.URL
	// QueueReceives is how often the queue hands out a message before it gives it up, its
	// maxReceiveCount: BACKSTOP_QUEUE_MAX_RECEIVES, default 5.
	QueueReceives  int
	MaxBodyBytes   int           // BACKSTOP_MAX_BODY_BYTES, default 256 KiB
	IdempotencyTTL time.Duration // BACKSTOP_IDEMPOTENCY_TTL, default 24 h
	ReplayFunction string        // BACKSTOP_REPLAY_FUNCTION: name or ARN; empty: the schedule does the work
	// Replayers is the most replayers that a tick of the schedule has work at once, itself included:
	// BACKSTOP_REPLAYERS, 1 to 16, default 1.
	Replayers int
	Local     bool // BACKSTOP_LOCAL: the local host runs this process
	// ForwardTo is where everything is sent instead of where it is configured to go, in the local host
	// alone: BACKSTOP_FORWARD_TO. Nil: nowhere else.
	ForwardTo *url.URL

	// SinkMetrics says which metrics are published by sink: BACKSTOP_SINK_METRICS, default failing.
	SinkMetrics observe.SinkMetrics
	// LogSuccesses says which plain successes have a log line: BACKSTOP_LOG_SUCCESSES, default all.
	LogSuccesses observe.Sample

	// Proxy selects the proxy of a URL: HTTP_PROXY, HTTPS_PROXY, NO_PROXY. Nil: none.
	Proxy func(*url.URL) (*url.URL, error)
}

var parameterName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+(:[A-Za-z0-9_.-]+)?$`) })

// ReadEnv reads the environment through lookup (os.LookupEnv in a function). Every
// missing or bad variable is reported, all at once; the error is SINK_CONFIG_INVALID.
func ReadEnv(lookup func(string) (string, bool)) (Env, error) {
	r := envReader{lookup: lookup}
	e := Env{
		Service:        r.text("BACKSTOP_SERVICE", "backstop"),
		SinksTTL:       r.duration("BACKSTOP_SINKS_TTL", config.DefaultTTL),
		RedisCluster:   r.boolean("BACKSTOP_REDIS_CLUSTER"),
		RedisPassword:  sinks.Secret(r.text("BACKSTOP_REDIS_PASSWORD", "")),
		RedisIAMUser:   r.text("BACKSTOP_REDIS_IAM_USER", ""),
		KeyPrefix:      r.text("BACKSTOP_KEY_PREFIX", redisconn.DefaultPrefix),
		DLQMaxLen:      int(r.integer("BACKSTOP_DLQ_MAX_LEN", 100_000, -1)),
		DLQOverflow:    r.text("BACKSTOP_DLQ_OVERFLOW", ""),
		Reserve:        r.duration("BACKSTOP_RESERVE", retry.DefaultReserve),
		Concurrency:    int(r.integer("BACKSTOP_CONCURRENCY", 50, 1)),
		QueueReceives:  int(r.integer("BACKSTOP_QUEUE_MAX_RECEIVES", 5, 1)),
		MaxBodyBytes:   int(r.integer("BACKSTOP_MAX_BODY_BYTES", 256<<10, 1)),
		IdempotencyTTL: r.duration("BACKSTOP_IDEMPOTENCY_TTL", delivery.DefaultTTL),
		ReplayFunction: r.text("BACKSTOP_REPLAY_FUNCTION", ""),
		Replayers:      int(r.integer("BACKSTOP_REPLAYERS", 1, 1)),
		Local:          r.boolean("BACKSTOP_LOCAL"),
	}
	if spec := r.text("BACKSTOP_SINKS", ""); spec == "" {
		r.fault("BACKSTOP_SINKS", "missing; set it to file:config/sinks, ssm:/path/to/sinks/* or ssm:/path/to/sinks")
	} else if s, err := config.ParseSource(spec); err != nil {
		r.fault("BACKSTOP_SINKS", "%s", err)
	} else {
		e.Sinks = s
	}
	e.RedisURL = r.redisURL(e.Local)
	e.QueueURL = r.queueURL(e.Local)
	if name, ok := strings.CutPrefix(e.RedisPassword.Reveal(), "ssm:"); ok {
		e.RedisPassword, e.RedisParameter = "", name
		if !parameterName().MatchString(name) {
			r.fault("BACKSTOP_REDIS_PASSWORD", "want ssm:/path/of/a/parameter, or a password that does not begin with ssm:") // it may be one
		}
	}
	e.ForwardTo = r.forwardTo(e.Local)
	if e.Replayers > replay.MaxReplayers {
		r.fault("BACKSTOP_REPLAYERS", "%d; want 1 to %d", e.Replayers, replay.MaxReplayers)
	}
	r.journal(&e)
	if redisconn.CheckPrefix(e.KeyPrefix) != nil {
		r.fault("BACKSTOP_KEY_PREFIX", "%.80q does not match %s", e.KeyPrefix, redisconn.PrefixForm)
	}
	r.iam(&e)
	e.SinkMetrics = choice(&r, "BACKSTOP_SINK_METRICS", "failing", observe.ParseSinkMetrics)
	e.LogSuccesses = choice(&r, "BACKSTOP_LOG_SUCCESSES", "all", observe.ParseSample)
	e.Proxy = r.proxy()
	if len(r.faults) > 0 {
		return e, &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "environment", Cause: errors.Join(r.faults...)}
	}
	return e, nil
}

// environment reads the process's own environment.
func environment() (Env, error) { return ReadEnv(os.LookupEnv) }

// envReader collects the faults of an environment.
type envReader struct {
	lookup func(string) (string, bool)
	faults []error
}

func (r *envReader) fault(name, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

// text returns a variable without the line end at its end, which files have; an empty one
// counts as unset, as templates make them.
func (r *envReader) text(name, unset string) string {
	v, _ := r.lookup(name)
	return cmp.Or(strings.TrimRight(v, lineEnds), unset)
}

// lineEnds end a value that "echo" or an editor wrote, and are part of none.
const lineEnds = "\r\n"

func (r *envReader) duration(name string, unset time.Duration) time.Duration {
	v := r.text(name, "")
	if v == "" {
		return unset
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		r.fault(name, "%.40q; want a positive duration such as 250ms, 1s or 24h", v)
		return unset
	}
	return d
}

func (r *envReader) integer(name string, unset, least int64) int64 {
	v := r.text(name, "")
	if v == "" {
		return unset
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least {
		r.fault(name, "%.40q; want a whole number, at least %d", v, least)
		return unset
	}
	return n
}

func (r *envReader) boolean(name string) bool {
	v := r.text(name, "false")
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.fault(name, "%.40q; want true or false", v)
	}
	return b
}

// forwardTo reads where everything is sent instead, which only the local host may ask for.
func (r *envReader) forwardTo(local bool) *url.URL {
	const name = "BACKSTOP_FORWARD_TO"
	raw := r.text(name, "")
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	switch {
	case !local:
		r.fault(name, "only the local host forwards: everything would go there, and nothing to a receiver")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		r.fault(name, "want http://host:port/path")
	}
	return u
}

// choice reads a variable that has a parser of its own.
func choice[T any](r *envReader, name, unset string, parse func(string) (T, error)) T {
	v, err := parse(r.text(name, unset))
	if err != nil {
		r.fault(name, "%s", err)
	}
	return v
}

// journal reads BACKSTOP_JOURNAL, and BACKSTOP_DLQ_OVERFLOW, which depends on it.
func (r *envReader) journal(e *Env) {
	const name = "BACKSTOP_DLQ_OVERFLOW"
	spec := r.text("BACKSTOP_JOURNAL", "")
	if spec != "" {
		var err error
		if e.Journal, err = journal.ParseLocation(spec); err != nil {
			r.fault("BACKSTOP_JOURNAL", "%s", err)
		}
	}
	switch e.DLQOverflow {
	case "reject", "trim":
	case "spill":
		if spec == "" {
			r.fault(name, "spill needs BACKSTOP_JOURNAL; set it to s3://bucket/prefix or file:/folder, or use reject or trim")
		}
	case "":
		if e.DLQOverflow = "reject"; spec != "" {
			e.DLQOverflow = "spill"
		}
	default:
		r.fault(name, "%.40q; want spill, reject or trim", e.DLQOverflow)
	}
}

// redisURL reads BACKSTOP_REDIS_URL. Its text may hold a password, so no fault shows it.
func (r *envReader) redisURL(local bool) *url.URL {
	const name = "BACKSTOP_REDIS_URL"
	v := r.text(name, "")
	if v == "" {
		if !local {
			r.fault(name, "missing; set it to redis://host:port or rediss://host:port (TLS): dead letters are kept there")
		}
		return nil
	}
	u, err := url.Parse(v)
	switch {
	case err != nil:
		r.fault(name, "not a URL; want redis://host:port or rediss://host:port")
		return nil
	case u.Scheme != "redis" && u.Scheme != "rediss":
		r.fault(name, "scheme %.20q; want redis:// or rediss:// (TLS)", u.Scheme)
	case u.Host == "":
		r.fault(name, "no host; want %s://host:port", u.Scheme)
	}
	return u
}

// queueURL reads BACKSTOP_QUEUE_URL. Requests go there signed, but readable: so by TLS, if not
// on this machine.
func (r *envReader) queueURL(local bool) *url.URL {
	const name, form = "BACKSTOP_QUEUE_URL", "want a queue's URL such as https://sqs.eu-west-1.amazonaws.com/123456789012/name"
	v := r.text(name, "")
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil {
		r.fault(name, "not a URL; %s", form)
		return nil
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		r.fault(name, "scheme %.20q; %s", u.Scheme, form)
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		r.fault(name, "a host and a path alone are taken; %s", form)
	case len(parts) < 2 || slices.Contains(parts, ""):
		r.fault(name, "path %.80q does not end in /account/name; %s", u.Path, form)
	case u.Scheme == "http" && !local && !loopback.IsLocal(u.Host):
		r.fault(name, "http:// is taken for this machine alone; %s", form)
	}
	return u
}

func (r *envReader) iam(e *Env) {
	const name = "BACKSTOP_REDIS_IAM_CACHE"
	v := r.text(name, "")
	if v == "" {
		if e.RedisIAMUser != "" {
			r.fault(name, "missing; BACKSTOP_REDIS_IAM_USER needs serverless:<name> or replication-group:<id>")
		}
		return
	}
	kind, cache, ok := strings.Cut(v, ":")
	if !ok || cache == "" || kind != "serverless" && kind != "replication-group" {
		r.fault(name, "%.80q; want serverless:<name> or replication-group:<id>", v)
		return
	}
	if e.RedisIAMUser == "" {
		r.fault("BACKSTOP_REDIS_IAM_USER", "missing; %s needs the cache user's name", name)
	}
	if e.RedisPassword != "" || e.RedisParameter != "" {
		r.fault("BACKSTOP_REDIS_PASSWORD", "set together with %s; use one of them", name)
	}
	if e.RedisURL != nil && e.RedisURL.Scheme != "rediss" {
		r.fault("BACKSTOP_REDIS_URL", "IAM authentication needs TLS: rediss://")
	}
	e.RedisIAMCache = iamCache{Name: strings.ToLower(cache), Serverless: kind == "serverless"}
}
