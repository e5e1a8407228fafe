//go:build full

package stack_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/terms"
)

// Each route leads to its function, which gets the event that it reads and has its whole
// time to answer.
func TestRoutesLeadToTheirFunctions(t *testing.T) {
	s := resolve(t, createdCache)
	want := map[string]string{
		"POST /v1/messages": "SendFunction", "GET /v1/{proxy+}": "DlqApiFunction", "POST /v1/{proxy+}": "DlqApiFunction", "DELETE /v1/{proxy+}": "DlqApiFunction",
		"DELETE /v1/deliveries": "DlqApiFunction",
	}
	got := map[string]string{}
	for _, r := range s.of("AWS::ApiGatewayV2::Route") {
		for id, i := range s.of("AWS::ApiGatewayV2::Integration") {
			if text(r.Properties["Target"]) != "integrations/"+text(s.attribute(id, "Ref")) {
				continue
			}
			for _, f := range functions {
				if i.Properties["IntegrationUri"] != s.attribute(f, "Arn") {
					continue
				}
				got[text(r.Properties["RouteKey"])] = f
				limit, timeout := number(i.Properties["TimeoutInMillis"]), number(s.Resources[f].Properties["Timeout"])
				if limit > 30000 || limit <= 1000*timeout {
					t.Errorf("%s waits %d ms for a function that has %d s; 30,000 is the most", id, limit, timeout)
				}
			}
			if text(i.Properties["PayloadFormatVersion"]) != "2.0" || text(i.Properties["IntegrationType"]) != "AWS_PROXY" {
				t.Errorf("%s sends %v, %v; the functions read 2.0", id, i.Properties["IntegrationType"], i.Properties["PayloadFormatVersion"])
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got)\n%s", diff)
	}
	if got, want := text(at(s.Resources["ApiStage"].Properties, "AccessLogSettings", "DestinationArn")), text(s.attribute("ApiLogs", "Arn")); got != want {
		t.Errorf("access logs go to %s, want a group of their own", got)
	}
}

// The parameters reach the variables that they are for, each with a value of its own.
func TestParametersReachTheirVariables(t *testing.T) {
	s := resolve(t, map[string]string{
		"SinksPath": "/p/sinks", "SinksTtl": "61s", "KeyPrefix": "pre", "DlqMaxLen": "1001", "DlqOverflow": "trim", "Reserve": "2s", "Concurrency": "51",
		"MaxBodyBytes": "1002", "IdempotencyTtl": "62h", "RedisUrl": "rediss://cache.example:6379", "RedisCluster": "false", "RedisPasswordParameter": "/p/redis",
		"HttpProxy": "http://proxy:1", "HttpsProxy": "http://proxy:2", "NoProxy": "inside", "RedisIamUser": "robot", "RedisIamKind": "serverless", "RedisIamCache": "cache-9",
		"SinkMetrics": "top:7", "LogSuccesses": "1/9", "Replayers": "4",
	})
	want := map[string]string{
		"BACKSTOP_SERVICE": stackName, "BACKSTOP_SINKS": "ssm:/p/sinks/*", "BACKSTOP_SINKS_TTL": "61s", "BACKSTOP_KEY_PREFIX": "pre",
		"BACKSTOP_DLQ_MAX_LEN": "1001", "BACKSTOP_DLQ_OVERFLOW": "trim", "BACKSTOP_RESERVE": "2s", "BACKSTOP_CONCURRENCY": "51",
		"BACKSTOP_MAX_BODY_BYTES": "1002", "BACKSTOP_IDEMPOTENCY_TTL": "62h", "BACKSTOP_REDIS_URL": "rediss://cache.example:6379",
		"BACKSTOP_REDIS_CLUSTER": "false", "BACKSTOP_REDIS_PASSWORD": "ssm:/p/redis", "HTTP_PROXY": "http://proxy:1", "HTTPS_PROXY": "http://proxy:2",
		"NO_PROXY": "inside", "BACKSTOP_REDIS_IAM_USER": "robot", "BACKSTOP_REDIS_IAM_CACHE": "serverless:cache-9",
		"BACKSTOP_SINK_METRICS": "top:7", "BACKSTOP_LOG_SUCCESSES": "1/9", "BACKSTOP_REPLAYERS": "4",
		"BACKSTOP_JOURNAL":            "s3://" + text(s.attribute("Bucket", "Ref")) + "/pre",
		"BACKSTOP_QUEUE_URL":          text(s.attribute("Messages", "Ref")),
		"BACKSTOP_REPLAY_FUNCTION":    text(s.attribute("ReplayFunction", "Ref")),
		"BACKSTOP_QUEUE_MAX_RECEIVES": fmt.Sprint(number(at(s.Resources["Messages"].Properties, "RedrivePolicy", "maxReceiveCount"))),
	}
	checked := map[string]bool{}
	for _, f := range functions {
		for name, got := range s.environment(f) {
			checked[name] = true
			if got != want[name] {
				t.Errorf("%s: %s is %q, want %q", f, name, got, want[name])
			}
		}
	}
	if len(checked) != len(want) {
		t.Errorf("set are %v, want %v", sorted(checked), sorted(want))
	}
	created := resolve(t, createdCache).environment("SendFunction")
	for name, want := range map[string]string{
		"BACKSTOP_REDIS_URL":     "rediss://" + text(s.attribute("Cache", "Endpoint.Address")) + ":" + text(s.attribute("Cache", "Endpoint.Port")),
		"BACKSTOP_REDIS_CLUSTER": "true", "BACKSTOP_REDIS_IAM_USER": text(s.attribute("CacheUser", "Ref")),
		"BACKSTOP_REDIS_IAM_CACHE": "serverless:" + text(s.attribute("Cache", "Ref")),
	} {
		if created[name] != want {
			t.Errorf("with a created cache, %s is %q, want %q", name, created[name], want)
		}
	}
}

// The outputs are what the pages and the CLI take them for.
func TestOutputsAreWhatTheyAreCalled(t *testing.T) {
	s := resolve(t, createdCache)
	want := map[string]string{
		"ApiUrl": "Api.ApiEndpoint", "QueueUrl": "Messages.Ref", "QueueArn": "Messages.Arn", "RedriveQueueUrl": "Redrive.Ref",
		"AsyncFailuresUrl": "AsyncFailures.Ref", "TickFailuresUrl": "TickFailures.Ref", "SendFunctionName": "SendFunction.Ref",
		"QueueFunctionName": "QueueFunction.Ref", "ReplayFunctionName": "ReplayFunction.Ref", "DlqApiFunctionName": "DlqApiFunction.Ref",
		"FunctionsSecurityGroupId": "FunctionsSecurityGroup.GroupId", "CacheName": "Cache.Ref", "JournalBucket": "Bucket.Ref",
	}
	for name, from := range want {
		id, attribute, _ := strings.Cut(from, ".")
		if got, want := text(s.Outputs[name]), text(s.attribute(id, attribute)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name, value := range map[string]string{"SinksPath": "/backstop/prod/sinks", "SecretsPath": "/backstop/prod/secrets"} {
		if text(s.Outputs[name]) != value {
			t.Errorf("%s is %v, want %s", name, s.Outputs[name], value)
		}
	}
	if url := text(s.Outputs["DashboardUrl"]); !strings.HasSuffix(url, "dashboards:name="+text(s.attribute("Dashboard", "Ref"))) {
		t.Errorf("DashboardUrl is %s", url)
	}
	if len(s.Outputs) != len(want)+6 { // and the policies, see TestThePoliciesOfTheOutputsAreThoseOfTheRoles
		t.Errorf("outputs %v: say here what each is", sorted(s.Outputs))
	}
}

// Without NAT, the functions reach SSM, SQS and Lambda by their usual names.
func TestEndpointsAnswerUnderTheUsualNames(t *testing.T) {
	s := resolve(t, everything)
	var services []string
	for id, e := range s.of("AWS::EC2::VPCEndpoint") {
		if e.Properties["VpcEndpointType"] == "Gateway" {
			continue // routes lead there, not names
		}
		services = append(services, text(e.Properties["ServiceName"]))
		if e.Properties["PrivateDnsEnabled"] != true || text(e.Properties["VpcId"]) != everything["VpcId"] || len(strs(e.Properties["SubnetIds"])) == 0 {
			t.Errorf("%s: %v", id, e.Properties)
		}
		if !slices.Equal(strs(e.Properties["SecurityGroupIds"]), []string{text(s.attribute("EndpointsSecurityGroup", "GroupId"))}) {
			t.Errorf("%s lets in %v", id, e.Properties["SecurityGroupIds"])
		}
	}
	slices.Sort(services)
	if want := []string{"com.amazonaws." + region + ".lambda", "com.amazonaws." + region + ".sqs", "com.amazonaws." + region + ".ssm"}; !slices.Equal(services, want) {
		t.Errorf("endpoints %v, want %v", services, want)
	}
}

// Message groups do not wait for each other, and a body sent twice is one message.
func TestAFifoQueueOrdersWithinGroupsOnly(t *testing.T) {
	p := resolve(t, everything).Resources["Messages"].Properties
	want := map[string]any{"FifoQueue": true, "ContentBasedDeduplication": true, "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
	for k, v := range want {
		if p[k] != v {
			t.Errorf("%s is %v, want %v", k, p[k], v)
		}
	}
}

// When each alarm rings. The expressions' results are what the thresholds are in.
func TestAlarmsRingWhenTheirSectionsSayTheyDo(t *testing.T) {
	params := map[string]string{
		"VpcId": "vpc-0123abcd", "SubnetIds": subnets, "HandedBackThreshold": "7", "ApiErrorThreshold": "6", "DeadLetterPercent": "8", "OldestDeadLetterHours": "9",
		"DlqMaxLen": "1001", "CacheMaxGigabytes": "3",
	}
	const (
		above = "GreaterThanThreshold"
		sums  = "SUM([FILL(send, 0), FILL(queue, 0), FILL(replay, 0), FILL(api, 0)])"
	)
	want := map[string]string{ // what, comparison, threshold, periods of how many seconds
		"HandedBackAlarm":       "Sum of HandedBack " + above + " 7, 1 x 300 s",
		"DeadLetterRateAlarm":   "IF(FILL(delivered, 0) + FILL(dead, 0) >= 20, 100 * FILL(dead, 0) / (FILL(delivered, 0) + FILL(dead, 0)), 0) of delivered=Sum of Delivered, dead=Sum of DeadLettered " + above + " 8, 2 x 300 s",
		"OldestDeadLetterAlarm": "age / 3600 of age=Maximum of DLQOldestAge " + above + " 9, 1 x 300 s",
		"DepthAlarm":            "100 * depth / 1001 of depth=Maximum of DLQDepth " + above + " 80, 1 x 300 s",
		"TrimmedAlarm":          "Sum of Trimmed " + above + " 0, 1 x 300 s",
		"QueueLostAlarm":        "Maximum of QueueLost " + above + " 0, 1 x 300 s",
		"SpilledAlarm":          "Maximum of SpillDepth " + above + " 0, 3 x 300 s",
		"UnjournaledAlarm":      "Maximum of Unjournaled " + above + " 0, 3 x 300 s",
		"DamagedAlarm":          "Sum of Damaged " + above + " 0, 1 x 300 s",
		"ParkedAlarm":           "Sum of Parked " + above + " 0, 1 x 300 s",
		"NewCauseAlarm":         "Sum of NewCauses GreaterThanOrEqualToThreshold 1, 1 x 300 s",
		"ReceiverDownAlarm":     "Sum of BreakerOpened " + above + " 0, 1 of 3 x 300 s",
		"QueueAgeAlarm":         "Maximum of ApproximateAgeOfOldestMessage " + above + " 2700, 1 x 300 s",
		"RedriveAlarm":          "Maximum of ApproximateNumberOfMessagesVisible " + above + " 0, 1 x 300 s",
		"AsyncFailuresAlarm":    "Maximum of ApproximateNumberOfMessagesVisible " + above + " 0, 1 x 300 s",
		"TickFailuresAlarm":     "Sum of NumberOfMessagesSent " + above + " 2, 1 x 900 s",
		"ConfigMissingAlarm":    "Sum of ConfigMissing " + above + " 0, 3 x 60 s",
		"ApiErrorsAlarm":        "Sum of 5xx " + above + " 6, 1 x 300 s",
		"ReplayMissingAlarm":    "Sum of ReplayRuns LessThanThreshold 1, 5 x 60 s",
		"ConfigStaleAlarm":      "Minimum of ConfigAge " + above + " 3600, 1 x 900 s",
		"ErrorsAlarm":           sums + " of send=Sum of Errors, queue=Sum of Errors, replay=Sum of Errors, api=Sum of Errors " + above + " 0, 1 x 300 s",
		"ThrottlesAlarm":        sums + " of send=Sum of Throttles, queue=Sum of Throttles, replay=Sum of Throttles, api=Sum of Throttles " + above + " 0, 2 x 300 s",
		"DurationAlarm":         "MAX([100 * FILL(send, 0) / 29000, 100 * FILL(queue, 0) / 120000, 100 * FILL(api, 0) / 29000]) of send=p99 of Duration, queue=p99 of Duration, api=p99 of Duration " + above + " 90, 3 x 300 s",
		"CacheStorageAlarm":     "100 * bytes / (3 * 1073741824) of bytes=Maximum of BytesUsedForCache " + above + " 80, 1 x 300 s",
		"CacheConnectionsAlarm": "Maximum of CurrConnections " + above + " 20000, 1 x 300 s",
		"CacheThrottledAlarm":   "Sum of ThrottledCmds " + above + " 0, 1 x 300 s",
	}
	got := map[string]string{}
	for id, a := range resolve(t, params).of("AWS::CloudWatch::Alarm") {
		got[id] = rings(a.Properties)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alarms (-want +got)\n%s", diff)
	}
}

// The queue's age rings for nothing that is as it should be: what callers put off, what comes again after it was
// handed back, and groups of a FIFO queue that wait behind their first message.
func TestTheAlarmOnTheQueuesAgeKnowsWhatMayWait(t *testing.T) {
	const putOff = int(terms.LongestDelay / time.Second)
	for name, params := range map[string]map[string]string{"standard": createdCache, "FIFO": everything} {
		s := resolve(t, params)
		again, receives := number(s.Resources["Messages"].Properties["VisibilityTimeout"]), number(at(s.Resources["Messages"].Properties, "RedrivePolicy", "maxReceiveCount"))
		longest := receives * again // FIFO: a group that is held
		if name == "standard" {
			longest = putOff + 2*again // at its third receive SQS does not count it any more
		}
		threshold := number(s.Resources["QueueAgeAlarm"].Properties["Threshold"])
		if threshold <= longest || threshold > longest+again {
			t.Errorf("%s: rings at %d s; a message that is well may be %d s old, and one that is not must be told soon", name, threshold, longest)
		}
		if says := fmt.Sprintf("%d", threshold/60); !strings.Contains(strings.SplitAfter(read(t, "docs", "runbook.md"), "### Messages wait in the queue")[1], says) {
			t.Errorf("%s: the runbook does not say %s minutes", name, says)
		}
	}
}

// rings says in a line when an alarm rings.
func rings(p object) string {
	what, period := fmt.Sprintf("%v of %v", p["Statistic"], p["MetricName"]), plain(p["Period"])
	if queries, ok := p["Metrics"].(list); ok {
		var of []string
		for _, q := range queries {
			if e := text(obj(q)["Expression"]); e != "" {
				what = e
				continue
			}
			stat := obj(obj(q)["MetricStat"])
			period = plain(stat["Period"])
			of = append(of, fmt.Sprintf("%v=%v of %v", obj(q)["Id"], stat["Stat"], at(stat, "Metric", "MetricName")))
		}
		what += " of " + strings.Join(of, ", ")
	}
	periods := plain(p["EvaluationPeriods"])
	if least, ok := p["DatapointsToAlarm"]; ok {
		periods = plain(least) + " of " + periods
	}
	return fmt.Sprintf("%s %v %s, %s x %s s", what, p["ComparisonOperator"], plain(p["Threshold"]), periods, period)
}

// Each of a metric alarm's functions and queues is the one that its name says.
func TestAlarmsWatchWhatTheirIdsSay(t *testing.T) {
	s := resolve(t, createdCache)
	of := map[string]string{"send": "SendFunction", "queue": "QueueFunction", "replay": "ReplayFunction", "api": "DlqApiFunction"}
	for id, a := range s.of("AWS::CloudWatch::Alarm") {
		queries, _ := a.Properties["Metrics"].(list)
		for _, q := range queries {
			f, ok := of[text(obj(q)["Id"])]
			if !ok {
				continue
			}
			dims, _ := at(q, "MetricStat", "Metric", "Dimensions").(list)
			if len(dims) != 1 || obj(dims[0])["Value"] != s.attribute(f, "Ref") {
				t.Errorf("%s: %v watches %v", id, obj(q)["Id"], dims)
			}
		}
	}
	for id, queue := range map[string]string{"QueueAgeAlarm": "Messages", "RedriveAlarm": "Redrive", "AsyncFailuresAlarm": "AsyncFailures", "TickFailuresAlarm": "TickFailures"} {
		dims, _ := s.Resources[id].Properties["Dimensions"].(list)
		if len(dims) != 1 || obj(dims[0])["Value"] != s.attribute(queue, "QueueName") {
			t.Errorf("%s watches %v, want %s", id, dims, queue)
		}
	}
}
