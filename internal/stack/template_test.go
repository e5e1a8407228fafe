//go:build full

// Package stack_test holds the deployment: what template.yaml becomes, what its roles
// allow, and that the real functions live with it.
package stack_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"backstop/lib/replay"
)

func TestFunctionsAreSmallArmBinariesWithExplicitLimits(t *testing.T) {
	timeouts := map[string]int{"SendFunction": 29, "QueueFunction": 120, "ReplayFunction": 55, "DlqApiFunction": 29}
	eachVariant(t, func(t *testing.T, s stack) {
		for _, id := range functions {
			p := s.Resources[id].Properties
			if text(p["Runtime"]) != "provided.al2023" || text(p["Handler"]) != "bootstrap" || !slices.Equal(strs(p["Architectures"]), []string{"arm64"}) {
				t.Errorf("%s runs %v on %v", id, p["Runtime"], p["Architectures"])
			}
			if number(p["Timeout"]) != timeouts[id] || number(p["MemorySize"]) < 128 {
				t.Errorf("%s: time-out %v and memory %v, want %d s and a size", id, p["Timeout"], p["MemorySize"], timeouts[id])
			}
			if text(at(p, "TracingConfig", "Mode")) != "Active" || text(at(p, "LoggingConfig", "LogFormat")) != "JSON" {
				t.Errorf("%s: tracing %v, logs %v", id, p["TracingConfig"], p["LoggingConfig"])
			}
			// Metrics are lines of level INFO.
			if text(at(p, "LoggingConfig", "ApplicationLogLevel")) != "INFO" {
				t.Errorf("%s logs from %v on, so its metrics are lost", id, at(p, "LoggingConfig", "ApplicationLogLevel"))
			}
			_, reserved := p["ReservedConcurrentExecutions"]
			if want := s.params["ReservedConcurrency"] != ""; reserved != want {
				t.Errorf("%s: concurrency reserved: %v, want %v", id, reserved, want)
			}
			_, inVpc := p["VpcConfig"]
			if want := s.params["VpcId"] != ""; inVpc != want {
				t.Errorf("%s: in a VPC: %v, want %v", id, inVpc, want)
			}
		}
		if len(s.of("AWS::Lambda::Function")) != len(functions) {
			t.Errorf("functions %v", sorted(s.of("AWS::Lambda::Function")))
		}
	})
	extra := strs(at(resolve(t, everything).Resources["SendFunction"].Properties, "VpcConfig", "SecurityGroupIds"))
	if !slices.Equal(extra, []string{"FunctionsSecurityGroup.GroupId", "sg-1", "sg-2"}) {
		t.Errorf("security groups %v, want the stack's own and those of the parameter", extra)
	}
}

// `sam build` runs a target that exists, in the folder of CodeUri: the whole project, or
// its copy. A folder of its own (WorkingDirectory and the like) would be taken from the
// template's place in one of the two modes, and from the copy's in the other.
func TestEachFunctionIsBuiltByTheMakefileFromTheProjectRoot(t *testing.T) {
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	makefile := read(t, "Makefile")
	for _, id := range functions {
		m := obj(at(doc, "Resources", id, "Metadata"))
		if text(m["BuildMethod"]) != "makefile" {
			t.Errorf("%s is built by %q, want the Makefile", id, m["BuildMethod"])
		}
		for _, k := range []string{"ContextPath", "WorkingDirectory", "ProjectRootDirectory"} {
			if m[k] != nil {
				t.Errorf("%s: %s is %q; both modes find the project without it", id, k, m[k])
			}
		}
		if !regexp.MustCompile(`(?m)^(build-\w+ )*build-` + id + `( build-\w+)*:`).MatchString(makefile) {
			t.Errorf("the Makefile has no target build-%s", id)
		}
	}
	if !regexp.MustCompile(`(?m)^    CodeUri: \.$`).MatchString(read(t, "template.yaml")) {
		t.Error("CodeUri is not the project's folder")
	}
}

// keptExceptOnCreate keeps a resource when its stack goes, but not when its own creation
// is rolled back: what a failed first try leaves would cost, and take the next one's name.
const keptExceptOnCreate = "RetainExceptOnCreate"

// Nothing else is kept, and nothing is replaced silently.
func TestWhatIsKeptGoesWithItsOwnFailedCreation(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		for id, r := range s.Resources {
			if r.DeletionPolicy == "Retain" {
				t.Errorf("%s survives the rollback of its own creation", id)
			}
			if (r.DeletionPolicy == keptExceptOnCreate) != (r.UpdateReplacePolicy == "Retain") {
				t.Errorf("%s: %q when it goes, %q when it is replaced", id, r.DeletionPolicy, r.UpdateReplacePolicy)
			}
		}
	})
}

func TestQueuesAreEncryptedBoundedAndKept(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		queues := s.of("AWS::SQS::Queue")
		tlsOnly := map[string]bool{} // by the queue's ARN and the URL that the policy is attached to
		for id, p := range s.of("AWS::SQS::QueuePolicy") {
			for _, st := range statements(p.Properties["PolicyDocument"]) {
				if st.Effect != "Deny" {
					t.Errorf("%s allows something: %+v", id, st)
				}
				if text(at(st.Condition, "Bool", "aws:SecureTransport")) == "false" && st.Principal == "*" && slices.Equal(st.Action, []string{"sqs:*"}) {
					for _, r := range st.Resource {
						for _, url := range strs(p.Properties["Queues"]) {
							tlsOnly[r+" "+url] = true
						}
					}
				}
			}
		}
		for id, q := range queues {
			p := q.Properties
			if p["SqsManagedSseEnabled"] != true {
				t.Errorf("%s is not encrypted", id)
			}
			if n := number(p["MessageRetentionPeriod"]); n < 60 || n > 1209600 {
				t.Errorf("%s keeps messages for %d s; say how long", id, n)
			}
			if !tlsOnly[text(s.attribute(id, "Arn"))+" "+text(s.attribute(id, "Ref"))] {
				t.Errorf("%s can be used without TLS", id)
			}
			if q.DeletionPolicy != keptExceptOnCreate || q.UpdateReplacePolicy != "Retain" {
				t.Errorf("%s goes with the stack: %s, %s", id, q.DeletionPolicy, q.UpdateReplacePolicy)
			}
			fifo := p["FifoQueue"] == true
			if want := s.params["Fifo"] == "true" && (id == "Messages" || id == "Redrive"); fifo != want {
				t.Errorf("%s: FIFO %v, want %v", id, fifo, want)
			}
		}
		if len(queues) != 4 {
			t.Errorf("queues %v", sorted(queues))
		}
	})
}

func TestTheQueueWaitsLongEnoughForItsFunction(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		queue, source := s.Resources["Messages"].Properties, s.Resources["QueueFunctionMessages"].Properties
		timeout := number(s.Resources["QueueFunction"].Properties["Timeout"])
		if v := number(queue["VisibilityTimeout"]); v < 6*timeout {
			t.Errorf("visibility %d s, want at least six times the time-out of %d s", v, timeout)
		}
		redrive := obj(queue["RedrivePolicy"])
		if number(redrive["maxReceiveCount"]) < 5 || text(redrive["deadLetterTargetArn"]) != text(s.attribute("Redrive", "Arn")) {
			t.Errorf("redrive %v, want five receives at least", redrive)
		}
		if number(s.Resources["Redrive"].Properties["MessageRetentionPeriod"]) < number(queue["MessageRetentionPeriod"]) {
			t.Error("the redrive queue forgets sooner than the queue; a message's age counts from its first sending")
		}
		if !slices.Equal(strs(source["FunctionResponseTypes"]), []string{"ReportBatchItemFailures"}) || number(source["BatchSize"]) != 10 {
			t.Errorf("the source reports %v in batches of %v", source["FunctionResponseTypes"], source["BatchSize"])
		}
		most := number(at(source, "ScalingConfig", "MaximumConcurrency"))
		if most < 2 {
			t.Errorf("the source has no maximum concurrency: %v", source)
		}
		if r, ok := s.Resources["QueueFunction"].Properties["ReservedConcurrentExecutions"]; ok && number(r) < most {
			t.Errorf("%v reserved for a source that starts %d", r, most)
		}
	})
}

func TestTicksNeverPileUp(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		tick := s.Resources["ReplayFunctionTick"].Properties
		if tick["Name"] != nil {
			t.Errorf("the schedule has the fixed name %v; two stacks would collide", tick["Name"])
		}
		if tick["ScheduleExpression"] != "rate(1 minute)" || number(s.Resources["ReplayFunction"].Properties["Timeout"]) >= 60 {
			t.Errorf("schedule %v of a function with %v s: runs would overlap", tick["ScheduleExpression"], s.Resources["ReplayFunction"].Properties["Timeout"])
		}
		keep := text(s.attribute("TickFailures", "Arn"))
		target := obj(tick["Target"])
		async := s.Resources["ReplayFunctionEventInvokeConfig"].Properties
		for what, policy := range map[string]object{"scheduler": obj(target["RetryPolicy"]), "function": async} {
			if number(policy["MaximumRetryAttempts"]) != 0 || number(policy["MaximumEventAgeInSeconds"]) > 60 {
				t.Errorf("%s: retries %v within %v s, want none within a tick", what, policy["MaximumRetryAttempts"], policy["MaximumEventAgeInSeconds"])
			}
		}
		if text(at(target, "DeadLetterConfig", "Arn")) != keep || text(at(async, "DestinationConfig", "OnFailure", "Destination")) != keep {
			t.Error("a tick that fails leaves no trace")
		}
		var input struct{ Trigger, Time string }
		if err := json.Unmarshal([]byte(text(target["Input"])), &input); err != nil || input.Trigger != "schedule" || input.Time != "<aws.scheduler.scheduled-time>" {
			t.Errorf("input %v", target["Input"])
		}
	})
}

// An event of an asynchronous caller is never dropped.
func TestAsynchronousEventsAreRetriedAndKept(t *testing.T) {
	s := resolve(t, createdCache)
	c := s.Resources["SendFunctionEventInvokeConfig"].Properties
	if number(c["MaximumRetryAttempts"]) != 2 || text(at(c, "DestinationConfig", "OnFailure", "Destination")) != text(s.attribute("AsyncFailures", "Arn")) {
		t.Errorf("asynchronous invokes of send: %v", c)
	}
	if s.Resources["AsyncFailures"].Properties["FifoQueue"] != nil {
		t.Error("a destination must be a standard queue")
	}
}

func TestLogsAreBoundedAndEncryptedWithTheKeyIfThereIsOne(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		groups := s.of("AWS::Logs::LogGroup")
		for id, g := range groups {
			// Without a key CloudWatch encrypts with its own.
			if number(g.Properties["RetentionInDays"]) < 1 || text(g.Properties["KmsKeyId"]) != s.params["DataKmsKeyArn"] {
				t.Errorf("%s: %v", id, g.Properties)
			}
		}
		used := map[string]bool{}
		for _, f := range functions {
			name := text(at(s.Resources[f].Properties, "LoggingConfig", "LogGroup"))
			if used[name] {
				t.Errorf("two functions log to %s", name)
			}
			used[name] = true
		}
		if len(groups) != len(functions)+1 {
			t.Errorf("log groups %v, want one for each function and one for the API", sorted(groups))
		}
	})
}

func TestTheCacheIsPrivateEncryptedBoundedAndKept(t *testing.T) {
	s := resolve(t, map[string]string{
		"VpcId": "vpc-0123abcd", "SubnetIds": subnets, "DataKmsKeyArn": everything["DataKmsKeyArn"], "KeyPrefix": "mine",
	})
	c := s.Resources["Cache"]
	if c.Properties["Engine"] != "valkey" || text(c.Properties["KmsKeyId"]) != everything["DataKmsKeyArn"] || c.Properties["UserGroupId"] == nil {
		t.Errorf("cache %v", c.Properties)
	}
	limits := obj(c.Properties["CacheUsageLimits"])
	if number(at(limits, "DataStorage", "Maximum")) < 1 || number(at(limits, "ECPUPerSecond", "Maximum")) < 1000 {
		t.Errorf("limits %v: costs are not bounded", limits)
	}
	if name := text(c.Properties["ServerlessCacheName"]); !regexp.MustCompile(`^[a-z][a-z0-9-]{0,38}[a-z0-9]$`).MatchString(name) {
		t.Errorf("name %q is not one that IAM tokens can be made for", name)
	}
	user := s.Resources["CacheUser"].Properties
	if text(at(user, "AuthenticationMode", "Type")) != "iam" || user["UserId"] != user["UserName"] {
		t.Errorf("user %v, want IAM login, which needs the same id and name", user)
	}
	// Others cannot log in: the group's user "default", which the reference asks for, is off.
	if got, want := strs(s.Resources["CacheUserGroup"].Properties["UserIds"]), []string{text(s.attribute("CacheUser", "Ref")), text(s.attribute("CacheDefaultUser", "Ref"))}; !slices.Equal(got, want) {
		t.Errorf("users %v, want %v", got, want)
	}
	off := s.Resources["CacheDefaultUser"].Properties
	if off["UserName"] != "default" || text(off["AccessString"]) != "off -@all" || text(at(off, "AuthenticationMode", "Type")) != "password" || off["UserId"] == user["UserId"] {
		t.Errorf("default user %v, want one that is off", off)
	}
	for _, p := range strs(at(off, "AuthenticationMode", "Passwords")) {
		if len(p) < 16 || len(p) > 128 {
			t.Errorf("a password of %d characters; ElastiCache takes 16 to 128", len(p))
		}
	}
	access := text(user["AccessString"])
	for _, want := range []string{"on ", " ~mine:* ", " ~{mine:* ", " -@all ", " -@dangerous"} {
		if !strings.Contains(access, want) {
			t.Errorf("access %q lacks %q", access, want)
		}
	}
	if strings.Contains(access, "~* ") || strings.Contains(access, "+@all") || strings.Contains(access, "nopass") {
		t.Errorf("access %q is too wide", access)
	}
	for _, id := range []string{"Cache", "CacheUser", "CacheDefaultUser", "CacheUserGroup", "CacheSecurityGroup"} {
		if r := s.Resources[id]; r.DeletionPolicy != keptExceptOnCreate || r.UpdateReplacePolicy != "Retain" {
			t.Errorf("%s goes with the stack: %s, %s", id, r.DeletionPolicy, r.UpdateReplacePolicy)
		}
	}
	in := s.Resources["CacheIngress"].Properties
	if in["SourceSecurityGroupId"] != s.attribute("FunctionsSecurityGroup", "GroupId") || in["CidrIp"] != nil || s.Resources["CacheSecurityGroup"].Properties["SecurityGroupIngress"] != nil {
		t.Errorf("others than the functions reach the cache: %v", in)
	}
	for _, f := range functions {
		if env := obj(at(s.Resources[f].Properties, "Environment", "Variables")); !strings.HasPrefix(text(env["BACKSTOP_REDIS_URL"]), "rediss://") {
			t.Errorf("%s talks to the cache without TLS: %v", f, env["BACKSTOP_REDIS_URL"])
		}
	}
	if s := resolve(t, noVpc); len(s.of("AWS::ElastiCache::ServerlessCache"))+len(s.of("AWS::EC2::SecurityGroup")) != 0 {
		t.Error("with an existing cache and no VPC, neither is created")
	}
}

// However many a tick may start, all of them have room, and an operation beside them. What is too many for the code is
// too many for the template.
func TestReplayersHaveRoomAndNoMoreThanTheCodeTakes(t *testing.T) {
	p := obj(at(resolve(t, noVpc).doc, "Parameters", "Replayers"))
	if number(p["Default"]) != 1 || number(p["MinValue"]) != 1 || number(p["MaxValue"]) != replay.MaxReplayers {
		t.Errorf("parameter %v, want 1 to %d, and 1 by default", p, replay.MaxReplayers)
	}
	for n := 1; n <= replay.MaxReplayers; n++ {
		params := maps.Clone(noVpc)
		params["Replayers"], params["ReservedConcurrency"] = strconv.Itoa(n), "20"
		f := resolve(t, params).Resources["ReplayFunction"].Properties
		if got := number(f["ReservedConcurrentExecutions"]); got != n+1 {
			t.Errorf("%d replayers have %d reserved, want %d", n, got, n+1)
		}
	}
}

// Functions stop before what they need goes: nothing runs without its role, its log
// group or its queue, and nothing is started without its function.
func TestTheStackEndsInTheRightOrder(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		before := func(first, then string) {
			t.Helper()
			if _, exists := s.Resources[then]; exists && !s.dependsOn(first, then, map[string]bool{}) {
				t.Errorf("%s may still be there when %s is gone", first, then)
			}
		}
		before("QueueFunctionMessages", "QueueFunction")
		before("QueueFunctionMessages", "Messages")
		before("ReplayFunctionTick", "ReplayFunction")
		before("ReplayFunctionTick", "SchedulerRole")
		before("ReplayFunctionTick", "SchedulerPolicy")
		before("ReplayFunction", "SchedulerRole") // so that IAM knows it everywhere when the schedule names it
		before("SendRoute", "SendFunction")
		for _, route := range []string{"ReadRoute", "OperateRoute", "DiscardRoute", "CancelRoute"} {
			before(route, "DlqApiFunction")
			before("ApiStage", route)
		}
		before("ApiStage", "SendRoute")
		before("Messages", "Redrive")
		before("CacheUserGroup", "CacheUser")
		before("Cache", "CacheUserGroup")
		for _, f := range functions {
			role := s.roleOf(t, f)
			before(f, role)
			before(f, strings.TrimSuffix(f, "Function")+"Logs")
			before(f, "FunctionsSecurityGroup")
			before(f, "Cache")
			before(f, "CacheIngress")
			before(f, "SsmEndpoint")
			before(f, "SqsEndpoint")
			before(f, "S3Endpoint")
			before(role, "FunctionAccess")
		}
		before("DlqApiFunction", "LambdaEndpoint")
		before("ReplayFunction", "LambdaEndpoint")
		before("SendFunctionEventInvokeConfig", "AsyncFailures")
		before("ReplayFunctionEventInvokeConfig", "TickFailures")
	})
}

func (s stack) dependsOn(id, on string, seen map[string]bool) bool {
	if seen[id] {
		return false
	}
	seen[id] = true
	for next := range s.Resources[id].needs {
		if next == on || s.dependsOn(next, on, seen) {
			return true
		}
	}
	return false
}

// Everything that has a name of its own has the stack's in it.
func TestTwoStacksInOneAccountDoNotCollide(t *testing.T) {
	named := regexp.MustCompile(`^(Name|.*Name|UserId|UserGroupId)$`)
	within := []string{"PolicyName", "UserName"} // unique in the role, and in the user group
	eachVariant(t, func(t *testing.T, s stack) {
		for id, r := range s.Resources {
			if strings.HasPrefix(r.Type, "AWS::ApiGatewayV2::") || r.Type == "AWS::CloudWatch::Alarm" || r.Type == "AWS::EC2::VPCEndpoint" {
				if name, ok := r.Properties["AlarmName"]; ok && !strings.HasPrefix(text(name), stackName+"-") {
					t.Errorf("%s is always called %v", id, name)
				}
				continue // named within what is the stack's
			}
			for k, v := range r.Properties {
				if named.MatchString(k) && !slices.Contains(within, k) && !strings.Contains(text(v), stackName) && !strings.Contains(text(v), "51af3dc0") && v != s.attribute(id, "Ref") {
					if n := text(v); !slices.Contains(functionNames(s), n) {
						t.Errorf("%s: %s is always %v", id, k, v)
					}
				}
			}
		}
	})
}

func functionNames(s stack) []string {
	var names []string
	for _, f := range functions {
		names = append(names, text(s.attribute(f, "Ref")))
	}
	return names
}

func TestSamconfigSetsOnlyParametersThatExist(t *testing.T) {
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile(`\b([A-Z]\w+)=`).FindAllStringSubmatch(read(t, "samconfig.toml"), -1) {
		found++
		if obj(doc["Parameters"])[m[1]] == nil {
			t.Errorf("the template has no parameter %s", m[1])
		}
	}
	if found == 0 {
		t.Error("samconfig.toml sets no parameter")
	}
	// --parameter-overrides replaces what samconfig.toml sets: a command that gives some
	// and not the others deploys dev on prod's paths, without a word.
	set := func(of string) map[string]bool {
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(`\b[A-Z]\w+=[^\s"]+`).FindAllString(of, -1) {
			found[m] = true
		}
		return found
	}
	for _, env := range []string{"dev", "prod"} {
		_, section, _ := strings.Cut(read(t, "samconfig.toml"), "["+env+".deploy.parameters]")
		section, _, _ = strings.Cut(section, "\n[")
		commands := regexp.MustCompile(`(?m)^sam deploy --config-env `+env+` .*--parameter-overrides.*$`).FindAllString(read(t, "docs", "deploy.md"), -1)
		if len(commands) == 0 {
			t.Errorf("deploy.md has no command for %s", env)
		}
		for _, c := range commands {
			for p := range set(section) {
				if !set(c)[p] {
					t.Errorf("%s\nloses %s of samconfig.toml", c, p)
				}
			}
		}
	}
}
