// Package redisclient makes the Redis client that Backstop's functions use, for programs that
// embed the library: start with New, and give its client to dlq.NewRedis, delivery.NewRedis
// and replay.NewRedisOperations.
//
// The client library's own settings outlive a caller's deadline, and its pool trusts every
// connection that was not closed. This client differs in four ways:
//
//   - A context's end ends a call, dials and logins included.
//   - When a question gets no answer in time, no connection is used again that was there before
//     it and has said nothing since. So a path that died silently (packets vanish, as a process
//     finds it that was frozen behind a NAT) costs one time-out, not one for each connection.
//   - Idle connections end before a load balancer ends them (5 minutes), all before
//     ElastiCache ends those with IAM (11 hours); each new one asks for its credentials anew.
//   - A password that a server says back is not in an error's text.
package redisclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"backstop/lib/fault"
)

// Limits of connections: idle ones end before ElastiCache's 350 s network time-out, all
// before IAM's 12 h.
const (
	defaultMaxIdle = 300 * time.Second
	defaultMaxLife = 11 * time.Hour
)

const (
	defaultPool     = 10
	defaultTimeout  = time.Second
	defaultPatience = 250 * time.Millisecond
)

// Options say where Redis is and how to call it. URL is needed; every other field may be zero.
type Options struct {
	// URL is redis://user:password@host:port/database, or rediss:// for TLS. User, password
	// and database may be left out; without a port it is 6379. Of a query it takes db (the
	// database) and skip_verify=true (any certificate will do: for tests); the other settings
	// are the fields here.
	URL string
	// Cluster says that the server is one of a cluster, which tells of the others. One that is
	// in cluster mode must be called so, even where it is alone (ElastiCache Serverless).
	Cluster bool
	// TLS is used for every connection. Nil: as URL says, with the system's roots. A zero
	// MinVersion is TLS 1.2; an empty ServerName is the host that is called.
	TLS *tls.Config

	// Credentials returns user and password for one new connection; empty ones log in with
	// none. It is called for each, at the same time too, so that a rotated password or a
	// short-lived token works. Its error is the call's. Nil: those of URL.
	Credentials func(context.Context) (user, password string, err error)

	// PoolSize is the most connections to each server. Zero: 10. Take as many as calls run at
	// once.
	PoolSize int
	// DialTimeout bounds the making of a connection, the TLS handshake included. Zero: 1 s.
	DialTimeout time.Duration
	// Timeout bounds a write, and the wait for an answer. Zero: 1 s. A context's end that is
	// sooner counts.
	Timeout time.Duration
	// Patience bounds the wait for the first byte of an answer on a connection that has been
	// silent for 100 ms or longer: whether its path still lives is not known. Zero: 250 ms.
	// Negative: no such bound, Timeout alone.
	Patience time.Duration
	// MaxIdle ends connections that nobody used for so long. Zero: 5 minutes.
	MaxIdle time.Duration
	// MaxLife ends connections that are so old. Zero: 11 hours.
	MaxLife time.Duration

	// LoginAdvice and RightsAdvice say what to check when the server refuses the login, or a
	// command that the user has no right to. They are added to the error's text. Empty: nothing is.
	LoginAdvice, RightsAdvice string
}

// New returns a client that has no connection yet, and what holds its connections. It does no
// I/O. Close the client when it is not needed any more. Unusable Options are INVALID_ARGUMENT;
// the error repeats nothing of the URL, which may hold a password.
//
// The client is a *redis.Client, or a *redis.ClusterClient where Options.Cluster is set: stores
// find out by its methods which one it is, so do not wrap it in a struct of your own.
func New(o Options) (redis.UniversalClient, *Connections, error) {
	base, err := parse(o.URL)
	if err != nil {
		return nil, nil, err
	}
	if o.PoolSize < 0 || o.DialTimeout < 0 || o.Timeout < 0 || o.MaxIdle < 0 || o.MaxLife < 0 {
		return nil, nil, invalid("a pool size, a time-out and a connection's age cannot be negative")
	}
	u := settings(base, o)
	c := &Connections{
		dialer:  redialer{TLS: u.TLSConfig, Timeout: u.DialTimeout, Patience: max(0, cmp.Or(o.Patience, defaultPatience))},
		secrets: scrubber{login: o.LoginAdvice, rights: o.RightsAdvice},
	}
	c.secrets.note(base.Password)
	u.Dialer = c.dialer.Dial
	if o.Credentials != nil {
		u.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			user, password, err := o.Credentials(ctx)
			c.secrets.note(password)
			return user, password, err
		}
	}
	client := redis.NewUniversalClient(u)
	client.AddHook(&c.secrets)
	return client, c, nil
}

// parse reads the URL. The client library's errors quote parts of it.
func parse(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, invalid("want redis://user:password@host:port/database, or rediss:// for TLS; user, password and database may be left out")
	}
	for name := range u.Query() {
		if name != "db" && name != "skip_verify" {
			return nil, invalid("the URL's query can have db and skip_verify alone")
		}
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, invalid("the database must be a number, and the only part of the URL's path")
	}
	return o, nil
}

func invalid(msg string) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "Redis: " + msg}
}

// settings are base's and o's. The stores bound their tries by context (redisconn), which
// ContextTimeoutEnabled makes count. The time-outs here bound everything else.
func settings(base *redis.Options, o Options) *redis.UniversalOptions {
	u := &redis.UniversalOptions{
		Addrs: []string{base.Addr}, DB: base.DB, Username: base.Username, Password: base.Password, TLSConfig: base.TLSConfig,
		IsClusterMode:         o.Cluster,
		ContextTimeoutEnabled: true,
		DialTimeout:           cmp.Or(o.DialTimeout, defaultTimeout),
		DialerRetries:         1,
		ReadTimeout:           cmp.Or(o.Timeout, defaultTimeout),
		WriteTimeout:          cmp.Or(o.Timeout, defaultTimeout),
		PoolSize:              cmp.Or(o.PoolSize, defaultPool),
		PipelinePoolSize:      -1,
		ConnMaxIdleTime:       cmp.Or(o.MaxIdle, defaultMaxIdle),
		ConnMaxLifetime:       cmp.Or(o.MaxLife, defaultMaxLife),
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
	if o.TLS != nil {
		u.TLSConfig = o.TLS.Clone()
	}
	if u.TLSConfig != nil {
		u.TLSConfig.MinVersion = cmp.Or(u.TLSConfig.MinVersion, tls.VersionTLS12)
	}
	return u
}

// Connections are those of one client. They are safe for concurrent use.
type Connections struct {
	dialer  redialer
	secrets scrubber
}

// HangUp closes all connections; a call that is under way on one of them gets an error or is
// made again on a new one. The client stays good: what is asked later dials anew. A process
// that may be frozen or stopped calls it when it has done its work (SIGTERM).
func (c *Connections) HangUp() { c.dialer.HangUp() }

// Redact replaces the client's passwords in a text: the URL's, and the last 8 of
// Options.Credentials. Errors of the client need it no more.
func (c *Connections) Redact(text string) string { return c.secrets.clean(text) }

// Logger returns what the client library can log through (redis.SetLogger), at debug level
// and without passwords. The library has one logger for the process.
func (c *Connections) Logger(log *slog.Logger) *Logger { return &Logger{log, c} }

// Logger passes on what the client library says of its connections. Connections.Logger makes
// it.
type Logger struct {
	log         *slog.Logger
	connections *Connections
}

// Printf implements the client library's logger.
func (l *Logger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis", "detail", l.connections.Redact(fmt.Sprintf(format, v...)))
}
