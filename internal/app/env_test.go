package app

import (
	"strings"
	"testing"
	"time"

	"backstop/internal/observe"
	"backstop/lib/fault"
)

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func minimal(more ...string) map[string]string {
	vars := map[string]string{"BACKSTOP_SINKS": "file:config/sinks", "BACKSTOP_REDIS_URL": "redis://cache:6379"}
	for i := 0; i < len(more); i += 2 {
		vars[more[i]] = more[i+1]
	}
	return vars
}

func TestTheEnvironmentHasTheseDefaults(t *testing.T) {
	e, err := ReadEnv(env(minimal("BACKSTOP_RESERVE", "")))
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"service":         e.Service == "backstop",
		"sinks":           e.Sinks.String() == "file:config/sinks",
		"sinks ttl":       e.SinksTTL == 5*time.Minute,
		"prefix":          e.KeyPrefix == "backstop",
		"max len":         e.DLQMaxLen == 100_000,
		"overflow":        e.DLQOverflow == "reject",
		"reserve":         e.Reserve == time.Second,
		"concurrency":     e.Concurrency == 50,
		"body":            e.MaxBodyBytes == 256<<10,
		"idempotency ttl": e.IdempotencyTTL == 24*time.Hour,
		"queue receives":  e.QueueReceives == 5,
		"replayers":       e.Replayers == 1,
		"sink metrics":    e.SinkMetrics == sinkMetrics(t, "failing"),
		"log successes":   e.LogSuccesses.Weight() == 1,
		"cluster":         !e.RedisCluster,
		"local":           !e.Local,
	} {
		if !ok {
			t.Errorf("default of %s: %+v", what, e)
		}
	}
}

func TestWhatIsPublishedAndLoggedIsChosen(t *testing.T) {
	e, err := ReadEnv(env(minimal("BACKSTOP_SINK_METRICS", "top:20\n", "BACKSTOP_LOG_SUCCESSES", "1/50")))
	if err != nil || e.SinkMetrics != sinkMetrics(t, "top:20") || e.LogSuccesses.Weight() != 50 {
		t.Errorf("%+v and %v, %v; want the 20 deepest sinks and one in 50", e.SinkMetrics, e.LogSuccesses, err)
	}
}

func sinkMetrics(t *testing.T, s string) observe.SinkMetrics {
	t.Helper()
	c, err := observe.ParseSinkMetrics(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryFaultOfTheEnvironmentIsReportedAtOnce(t *testing.T) {
	_, err := ReadEnv(env(map[string]string{
		"BACKSTOP_SINKS": "nowhere", "BACKSTOP_SINKS_TTL": "soon", "BACKSTOP_REDIS_CLUSTER": "perhaps", "BACKSTOP_KEY_PREFIX": "{a}",
		"BACKSTOP_DLQ_MAX_LEN": "many", "BACKSTOP_DLQ_OVERFLOW": "explode", "BACKSTOP_RESERVE": "-1s", "BACKSTOP_CONCURRENCY": "0",
		"BACKSTOP_MAX_BODY_BYTES": "0", "BACKSTOP_IDEMPOTENCY_TTL": "0s", "BACKSTOP_REDIS_IAM_USER": "me",
		"BACKSTOP_QUEUE_MAX_RECEIVES": "0", "BACKSTOP_REPLAYERS": "17", "BACKSTOP_SINK_METRICS": "some", "BACKSTOP_LOG_SUCCESSES": "few",
	}))
	if fault.CodeOf(err) != fault.CodeSinkConfigInvalid {
		t.Fatalf("got %v, want SINK_CONFIG_INVALID", err)
	}
	for _, name := range []string{
		"BACKSTOP_SINKS:", "BACKSTOP_SINKS_TTL:", "BACKSTOP_REDIS_URL:", "BACKSTOP_REDIS_CLUSTER:", "BACKSTOP_KEY_PREFIX:", "BACKSTOP_DLQ_MAX_LEN:",
		"BACKSTOP_DLQ_OVERFLOW:", "BACKSTOP_RESERVE:", "BACKSTOP_CONCURRENCY:", "BACKSTOP_MAX_BODY_BYTES:", "BACKSTOP_IDEMPOTENCY_TTL:", "BACKSTOP_REPLAYERS:", "BACKSTOP_REDIS_IAM_CACHE:", "BACKSTOP_QUEUE_MAX_RECEIVES:",
		"BACKSTOP_SINK_METRICS:", "BACKSTOP_LOG_SUCCESSES:",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s\n%s", name, err)
		}
	}
}

func TestABadVariableIsRefused(t *testing.T) {
	tests := []struct{ name, value, with, want string }{
		{"BACKSTOP_REDIS_URL", "http://cache", "", "scheme"},
		{"BACKSTOP_REDIS_URL", "redis://", "", "no host"},
		{"BACKSTOP_REDIS_URL", "redis://u:hush@ho st", "", "not a URL"},
		{"BACKSTOP_REDIS_PASSWORD", "ssm:hush", "", "ssm:/path/of/a/parameter"},
		{"BACKSTOP_REDIS_PASSWORD", "ssm:/a b/hush", "", "ssm:/path/of/a/parameter"},
		{"BACKSTOP_REDIS_IAM_CACHE", "serverless:x", "BACKSTOP_REDIS_PASSWORD", "use one of them"},
		{"BACKSTOP_REDIS_IAM_CACHE", "serverless:x", "", "BACKSTOP_REDIS_IAM_USER"},
		{"BACKSTOP_REDIS_IAM_CACHE", "cluster:x", "BACKSTOP_REDIS_IAM_USER", "serverless:<name>"},
		{"BACKSTOP_REDIS_IAM_CACHE", "serverless:x", "BACKSTOP_REDIS_IAM_USER", "rediss://"},
	}
	for _, tt := range tests {
		vars := minimal(tt.name, tt.value)
		if tt.with != "" {
			vars[tt.with] = "value"
		}
		_, err := ReadEnv(env(vars))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s=%s: got %v, want an error with %q", tt.name, tt.value, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error shows the password: %v", tt.name, err)
		}
	}
}

func TestThePasswordMayBeAParameter(t *testing.T) {
	for value, want := range map[string][2]string{
		"hush": {"hush", ""}, "ssm:/backstop/prod/redis": {"", "/backstop/prod/redis"}, "ssm:/redis:3": {"", "/redis:3"},
	} {
		e, err := ReadEnv(env(minimal("BACKSTOP_REDIS_PASSWORD", value)))
		if err != nil || e.RedisPassword.Reveal() != want[0] || e.RedisParameter != want[1] {
			t.Errorf("%s: got password %q, parameter %q, %v, want %q", value, e.RedisPassword.Reveal(), e.RedisParameter, err, want)
		}
	}
}

func TestMemoryIsForTheLocalHostOnly(t *testing.T) {
	vars := minimal("BACKSTOP_REDIS_URL", "")
	if _, err := ReadEnv(env(vars)); err == nil || !strings.Contains(err.Error(), "BACKSTOP_REDIS_URL: missing") {
		t.Errorf("got %v, want BACKSTOP_REDIS_URL to be missed", err)
	}
	vars["BACKSTOP_LOCAL"] = "true"
	if e, err := ReadEnv(env(vars)); err != nil || e.RedisURL != nil {
		t.Errorf("in the local host: %v", err)
	}
}
