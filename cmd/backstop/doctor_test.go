package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDoctorSaysWhatIsWrong(t *testing.T) {
	now := time.Now().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	answer := func(change ...string) string {
		text := fmt.Sprintf(`{"sinks":[{"name":"ops","kind":"slack","configured":true,"state":"ok"}],"config_age_seconds":12,"journal":true,"version":"devel","now":%q,"schedule_ran_at":%q}`, at(0), at(-40*time.Second))
		return strings.NewReplacer(change...).Replace(text)
	}
	for name, c := range map[string]struct {
		replies []reply
		code    int
		says    []string
	}{
		"all is well":                  {[]reply{ok(answer())}, exitDone, []string{"schedule       ok       it ran last 40s ago", "configuration  ok       1 sink, read 12s ago", "queue          ok       no dead letters"}},
		"the schedule stands still":    {[]reply{ok(answer(at(-40*time.Second), at(-3*time.Hour)))}, exitFailed, []string{"schedule       bad      it ran last 3h ago", "Is the schedule enabled"}},
		"no run is known":              {[]reply{ok(answer(`,"schedule_ran_at":"`+at(-40*time.Second)+`"`, ""))}, exitFailed, []string{"schedule       warning  no run is known"}},
		"a clock is off":               {[]reply{ok(answer(at(0), at(10*time.Minute+30*time.Second)))}, exitFailed, []string{"clock          bad      this machine's clock is 10m"}},
		"another version":              {[]reply{ok(answer(`"version":"devel"`, `"version":"v1.2.3"`))}, exitDone, []string{"version        unknown  the API is v1.2.3, this program devel"}},
		"an older API":                 {[]reply{ok(answer(`,"version":"devel"`, ""))}, exitDone, []string{"unknown  the API is of an older version"}},
		"no configuration":             {[]reply{ok(answer(`"config_age_seconds":12`, `"config_age_seconds":-1,"config_error":"ssm: throttled"`))}, exitFailed, []string{"configuration  bad      there is none: ssm: throttled"}},
		"an old configuration":         {[]reply{ok(answer(`"config_age_seconds":12`, `"config_age_seconds":900,"config_error":"ssm: throttled"`))}, exitFailed, []string{"configuration  warning  1 sink, read 15m ago, and cannot be refreshed: ssm: throttled"}},
		"a faulty sink":                {[]reply{ok(answer(`"state":"ok"`, `"state":"misconfigured","config_error":"url: missing"`))}, exitFailed, []string{"configuration  bad      1 sink, read 12s ago, faulty: ops"}},
		"a queue that cannot be read":  {[]reply{ok(answer(`"state":"ok"`, `"queue_error":"its slot moves","depth":-1`))}, exitFailed, []string{"redis          bad      1 queue cannot be read: ops: its slot moves"}},
		"a queue that lost":            {[]reply{ok(answer(`"state":"ok"`, `"state":"ok","queue_lost_since":"`+at(-time.Hour)+`"`))}, exitFailed, []string{"journal        bad      the queue lost dead letters of ops", "backstop dlq restore"}},
		"a full queue":                 {[]reply{ok(answer(`"state":"ok"`, `"state":"ok","spilled":7`))}, exitFailed, []string{"journal        warning  7 dead letters wait in it"}},
		"no journal":                   {[]reply{ok(answer(`"journal":true`, `"journal":false`))}, exitDone, []string{"journal        ok       there is none"}},
		"a receiver that is down":      {[]reply{ok(answer(`"state":"ok"`, `"state":"open","since":"`+at(-4*time.Minute)+`","last_error":"HTTP 503","next_probe":"`+at(20*time.Second)+`"`))}, exitFailed, []string{"warning  ops is open, since 4m: HTTP 503; next probe in 20s"}},
		"dead letters that wait":       {[]reply{ok(answer(`"state":"ok"`, `"state":"ok","depth":3,"due":1,"oldest_age_seconds":7200,"states":{"due":1,"waiting":2}`))}, exitFailed, []string{"warning  3 dead letters, the oldest of 2h; the schedule replays 1 of them, 2 wait for you"}},
		"dead letters that are due":    {[]reply{ok(answer(`"state":"ok"`, `"state":"ok","depth":1,"due":1,"oldest_age_seconds":60,"states":{"due":1}`))}, exitDone, []string{"ok       1 dead letter, the oldest of 60s; the schedule replays 1 of them"}},
		"credentials that are refused": {[]reply{problem(403, "")}, exitUnauthorized, []string{"credentials  bad", "Who you are may not do this"}},
		"an API that is away":          {[]reply{problem(503, "SINK_DLQ_UNAVAILABLE")}, exitUnavailable, []string{"api      bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			newAPI(t, c.replies...)
			r := run(t, "doctor")
			for _, want := range c.says {
				r.want(t, c.code, want, "")
			}
		})
	}
}
