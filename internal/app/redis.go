package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"backstop/lib/retry"
)

// Limits of connections: idle ones end before ElastiCache's 350 s network time-out, all
// before IAM's 12 h.
const (
	connMaxIdle = 300 * time.Second
	connMaxLife = 11 * time.Hour
)

// redisClient returns a client for e that has no connection yet, the scrubber that keeps its
// passwords out of texts, and the redialer that makes its connections. loadAWS is called
// only when the password or IAM needs it.
func redisClient(e Env, loadAWS func() (aws.Config, error)) (redis.UniversalClient, *scrubber, *redialer, error) {
	base, err := redis.ParseURL(e.RedisURL.String())
	if err != nil { // which quotes parts of the URL
		return nil, nil, nil, errors.New("BACKSTOP_REDIS_URL: want redis://user:password@host:port/database; user, password and database may be left out")
	}
	secrets := scrubber{login: loginAdvice(e)}
	secrets.note(base.Password)
	secrets.note(e.RedisPassword.Reveal())
	o := redisOptions(base, e)
	dialer := &redialer{TLS: o.TLSConfig, Timeout: o.DialTimeout, Patience: cmp.Or(e.Reserve, retry.DefaultReserve) / 4}
	o.Dialer = dialer.Dial
	if read := credentials(e, base.Username, loadAWS); read != nil {
		o.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			user, password, err := read(ctx)
			secrets.note(password)
			return user, password, err
		}
	}
	client := redis.NewUniversalClient(o)
	client.AddHook(&secrets)
	return client, &secrets, dialer, nil
}

// redisOptions are base's and e's settings. The stores bound their tries by context
// (redisconn), which ContextTimeoutEnabled makes count. The time-outs here bound everything
// else.
func redisOptions(base *redis.Options, e Env) *redis.UniversalOptions {
	o := &redis.UniversalOptions{
		Addrs: []string{base.Addr}, DB: base.DB, Username: base.Username, Password: base.Password, TLSConfig: base.TLSConfig,
		IsClusterMode:         e.RedisCluster,
		ContextTimeoutEnabled: true,
		DialTimeout:           time.Second,
		DialerRetries:         1,
		ReadTimeout:           time.Second,
		WriteTimeout:          time.Second,
		PoolSize:              max(10, e.Concurrency),
		PipelinePoolSize:      -1,
		ConnMaxIdleTime:       connMaxIdle,
		ConnMaxLifetime:       connMaxLife,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
	if o.TLSConfig != nil {
		o.TLSConfig.MinVersion = tls.VersionTLS12
	}
	if e.RedisPassword != "" {
		o.Password = e.RedisPassword.Reveal()
	}
	return o
}

// credentials reads user and password for each new connection; it is nil where they stand
// in the environment.
func credentials(e Env, user string, loadAWS func() (aws.Config, error)) func(context.Context) (string, string, error) {
	switch {
	case e.RedisIAMUser != "":
		return func(ctx context.Context) (string, string, error) {
			cfg, err := loadAWS()
			if err != nil {
				return "", "", err
			}
			token, err := iamToken(ctx, cfg, e.RedisIAMCache, e.RedisIAMUser, time.Now())
			return e.RedisIAMUser, token, err
		}
	case e.RedisParameter != "":
		return passwordFrom(e.RedisParameter, user, loadAWS)
	}
	return nil
}

// loginAdvice says what to check when the server refuses the user of e.
func loginAdvice(e Env) string {
	switch {
	case e.RedisIAMUser != "":
		return fmt.Sprintf("check that the user %s has IAM authentication, the same id and name, and is in the user group of the cache; "+
			"that the function's role allows elasticache:Connect on both; and that BACKSTOP_REDIS_IAM_CACHE and the region are the cache's", e.RedisIAMUser)
	case e.RedisParameter != "":
		return "check the user in BACKSTOP_REDIS_URL, and the password in the parameter " + e.RedisParameter
	}
	return "check user and password in BACKSTOP_REDIS_URL and BACKSTOP_REDIS_PASSWORD"
}

// redisLog passes what the client library says of its connections to our log: every
// line of a function's output is JSON.
type redisLog struct {
	log     *slog.Logger
	secrets *scrubber
}

// Printf implements the client library's logger.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis", "detail", l.secrets.clean(fmt.Sprintf(format, v...)))
}

// passwordFrom reads the password from SSM for every new connection, so that a rotated
// one is picked up; connections are few and long-lived.
func passwordFrom(parameter, user string, loadAWS func() (aws.Config, error)) func(context.Context) (string, string, error) {
	return func(ctx context.Context) (string, string, error) {
		cfg, err := loadAWS()
		if err != nil {
			return "", "", err
		}
		out, err := ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: &parameter, WithDecryption: aws.Bool(true)})
		if err != nil {
			return "", "", fmt.Errorf("BACKSTOP_REDIS_PASSWORD: parameter %s: %w", parameter, err)
		}
		return user, strings.TrimRight(aws.ToString(out.Parameter.Value), lineEnds), nil
	}
}
