package app

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"backstop/lib/redisclient"
	"backstop/lib/retry"
)

// rightsAdvice says what to check when the server refuses a command.
const rightsAdvice = "the Redis user lacks rights that docs/configuration.md lists, or BACKSTOP_KEY_PREFIX is not its own"

// redisOptions are e's settings of the client. loadAWS is called only when the password or IAM
// needs it.
func redisOptions(e Env, loadAWS func() (aws.Config, error)) redisclient.Options {
	u := *e.RedisURL
	if e.RedisPassword != "" {
		u.User = url.UserPassword(u.User.Username(), e.RedisPassword.Reveal())
	}
	return redisclient.Options{
		URL: u.String(), Cluster: e.RedisCluster, Credentials: credentials(e, u.User.Username(), loadAWS),
		PoolSize: max(10, e.Concurrency), Patience: cmp.Or(e.Reserve, retry.DefaultReserve) / 4,
		LoginAdvice: loginAdvice(e), RightsAdvice: rightsAdvice,
	}
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
