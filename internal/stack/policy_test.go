//go:build full

package stack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// statement is one of an IAM policy.
type statement struct {
	Sid, Effect       string
	Action, Resource  []string
	Condition         object
	Principal         any
	NotAction, NotRes any
}

func statements(document any) []statement {
	var out []statement
	l, _ := obj(document)["Statement"].(list)
	for _, e := range l {
		m := obj(e)
		out = append(out, statement{
			Sid: text(m["Sid"]), Effect: text(m["Effect"]), Action: strs(m["Action"]), Resource: strs(m["Resource"]),
			Condition: obj(m["Condition"]), Principal: m["Principal"], NotAction: m["NotAction"], NotRes: m["NotResource"],
		})
	}
	return out
}

// roleOf returns the id of a function's role.
func (s stack) roleOf(t *testing.T, function string) string {
	t.Helper()
	arn := text(s.Resources[function].Properties["Role"])
	for id := range s.of("AWS::IAM::Role") {
		if s.attribute(id, "Arn") == arn {
			return id
		}
	}
	t.Fatalf("%s: no role of the stack is %s", function, arn)
	return ""
}

// permissions returns all statements of a role, its managed policies' too.
func (s stack) permissions(t *testing.T, role string) []statement {
	t.Helper()
	r := s.Resources[role].Properties
	var out []statement
	policies, _ := r["Policies"].(list)
	for _, p := range policies {
		out = append(out, statements(obj(p)["PolicyDocument"])...)
	}
	for _, p := range s.of("AWS::IAM::Policy") {
		if slices.Contains(strs(p.Properties["Roles"]), text(s.attribute(role, "Ref"))) {
			out = append(out, statements(p.Properties["PolicyDocument"])...)
		}
	}
	for _, arn := range strs(r["ManagedPolicyArns"]) {
		found := false
		for id, p := range s.of("AWS::IAM::ManagedPolicy") {
			if s.attribute(id, "Ref") == arn {
				out, found = append(out, statements(p.Properties["PolicyDocument"])...), true
			}
		}
		if !found {
			t.Fatalf("%s: policy %s is none of the stack", role, arn)
		}
	}
	return out
}

var functions = []string{"SendFunction", "QueueFunction", "ReplayFunction", "DlqApiFunction"}

// keptByAll lists what every function may do with the journal in a bucket: send, too, takes back
// what was handed back, and removes the dead letter of what another delivered.
func keptByAll(bucket string) []string {
	open, spill, state := bucket+"/backstop/open/*", bucket+"/backstop/spill/*", bucket+"/backstop/state/*"
	return []string{
		"s3:ListBucket " + bucket,
		"s3:PutObject " + open, "s3:GetObject " + open, "s3:DeleteObject " + open,
		"s3:PutObject " + spill, "s3:GetObject " + spill, "s3:DeleteObject " + spill,
		"s3:DeleteObject " + state,
	}
}

// keptByAPI lists what dry runs read of a journal.
func keptByAPI(bucket string) []string {
	return []string{
		"s3:GetObject " + bucket + "/backstop/state/*", "s3:ListBucketVersions " + bucket,
		"s3:GetObjectVersion " + bucket + "/backstop/open/*", "s3:GetObjectVersion " + bucket + "/backstop/spill/*",
	}
}

// keptByReplay lists what the schedule and bulk operations alone do: states, and old versions, which
// nobody else can remove.
func keptByReplay(bucket string) []string {
	open, spill, state := bucket+"/backstop/open/*", bucket+"/backstop/spill/*", bucket+"/backstop/state/*"
	return []string{
		"s3:PutObject " + state, "s3:GetObject " + state, "s3:ListBucketVersions " + bucket,
		"s3:GetObjectVersion " + open, "s3:DeleteObjectVersion " + open, "s3:GetObjectVersion " + spill, "s3:DeleteObjectVersion " + spill,
	}
}

// This is the full list of permissions of each function. A new one has to be written here,
// with its resource.
func TestEveryFunctionReachesOnlyWhatItNeeds(t *testing.T) {
	parameters := "arn:aws:ssm:" + region + ":" + account + ":parameter"
	queue := "arn:aws:sqs:" + region + ":" + account + ":" + stackName + "-"
	logs := "arn:aws:logs:" + region + ":" + account + ":log-group:/aws/lambda/" + stackName + "-"
	lambda := "arn:aws:lambda:" + region + ":" + account + ":function:" + stackName + "-"
	cache := "arn:aws:elasticache:" + region + ":" + account + ":"
	own := map[string][]string{
		"SendFunction": {
			"logs:CreateLogStream " + logs + "send:*", "logs:PutLogEvents " + logs + "send:*",
			"sqs:SendMessage " + queue + "AsyncFailures", "sqs:SendMessage " + queue + "Messages",
		},
		"QueueFunction": {
			"logs:CreateLogStream " + logs + "queue:*", "logs:PutLogEvents " + logs + "queue:*",
			"sqs:DeleteMessage " + queue + "Messages", "sqs:GetQueueAttributes " + queue + "Messages", "sqs:ReceiveMessage " + queue + "Messages",
			"sqs:SendMessage " + queue + "Messages",
		},
		"ReplayFunction": {
			"logs:CreateLogStream " + logs + "replay:*", "logs:PutLogEvents " + logs + "replay:*",
			"sqs:SendMessage " + queue + "TickFailures",
			"lambda:InvokeFunction " + lambda + "ReplayFunction", // the other replayers of a tick
		},
		"DlqApiFunction": {
			"logs:CreateLogStream " + logs + "dlq-api:*", "logs:PutLogEvents " + logs + "dlq-api:*",
			"lambda:InvokeFunction " + lambda + "ReplayFunction",
		},
	}
	always := []string{
		"ssm:GetParametersByPath " + parameters + "/backstop/prod/sinks", "ssm:GetParametersByPath " + parameters + "/backstop/prod/sinks/*",
		"ssm:GetParameters " + parameters + "/backstop/prod/secrets/*",
		"xray:PutTelemetryRecords *", "xray:PutTraceSegments *",
	}
	vpc := []string{
		"ec2:AssignPrivateIpAddresses *", "ec2:CreateNetworkInterface *", "ec2:DeleteNetworkInterface *",
		"ec2:DescribeNetworkInterfaces *", "ec2:DescribeSubnets *", "ec2:UnassignPrivateIpAddresses *",
	}
	identity, topic, _ := strings.Cut(sinkResources, ",")
	made := "arn:aws:s3:::backstop-test-bucket-1a2b3c4d5e6f"
	bucket := map[string]string{"no VPC": "arn:aws:s3:::letters-of-ours", "created cache": made, "everything": made}
	shared := map[string][]string{
		"no VPC": append([]string{"ssm:GetParameter " + parameters + "/backstop/prod/redis"}, keptByAll(bucket["no VPC"])...),
		"created cache": slices.Concat([]string{
			"elasticache:Connect " + cache + "serverlesscache:backstop-51af3dc0", "elasticache:Connect " + cache + "user:backstop-51af3dc0",
		}, vpc, keptByAll(made)),
		"everything": slices.Concat([]string{
			"elasticache:Connect " + cache + "replicationgroup:cache-1", "elasticache:Connect " + cache + "user:backstop",
			"ses:SendEmail " + identity, "sns:Publish " + identity, "sqs:SendMessage " + identity, "events:PutEvents " + identity, "sms-voice:SendTextMessage " + identity,
			"ses:SendEmail " + topic, "sns:Publish " + topic, "sqs:SendMessage " + topic, "events:PutEvents " + topic, "sms-voice:SendTextMessage " + topic,
			"kms:Decrypt " + everything["ParametersKmsKeyArn"], "kms:Decrypt " + everything["DataKmsKeyArn"], "kms:GenerateDataKey " + everything["DataKmsKeyArn"],
		}, vpc, keptByAll(made)),
	}
	for variant, params := range variants {
		s := resolve(t, params)
		for _, f := range functions {
			var got []string
			for _, st := range s.permissions(t, s.roleOf(t, f)) {
				if st.Effect != "Allow" {
					continue
				}
				for _, a := range st.Action {
					for _, r := range st.Resource {
						got = append(got, a+" "+r)
					}
				}
			}
			want := slices.Concat(own[f], always, shared[variant])
			if b := bucket[variant]; b != "" && f == "ReplayFunction" {
				want = append(want, keptByReplay(b)...)
			} else if b != "" && f == "DlqApiFunction" {
				want = append(want, keptByAPI(b)...)
			}
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: what %s may do (-want +got)\n%s", variant, f, diff)
			}
		}
	}
}

func TestEachFunctionHasARoleOfItsOwn(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		used := map[string]string{}
		for _, f := range functions {
			role := s.roleOf(t, f)
			if used[role] != "" {
				t.Errorf("%s and %s share %s", used[role], f, role)
			}
			used[role] = f
			trust := statements(s.Resources[role].Properties["AssumeRolePolicyDocument"])
			if len(trust) != 1 || text(at(trust[0].Principal, "Service")) != "lambda.amazonaws.com" {
				t.Errorf("%s can be assumed by %v, want Lambda alone", role, trust)
			}
		}
	})
}

func TestAStarIsAllowedOnlyWhereAWSKnowsNoResource(t *testing.T) {
	// X-Ray's writes have no resources, and Lambda refuses to join a VPC with less.
	star := func(action string) bool {
		return strings.HasPrefix(action, "xray:Put") || strings.HasPrefix(action, "ec2:")
	}
	eachVariant(t, func(t *testing.T, s stack) {
		for id := range s.of("AWS::IAM::Role") {
			denied := map[string]bool{}
			for _, st := range s.permissions(t, id) {
				if st.NotAction != nil || st.NotRes != nil {
					t.Errorf("%s: %s allows by exclusion", id, st.Sid)
				}
				if st.Effect == "Deny" {
					if text(at(st.Condition, "Null", "lambda:SourceFunctionArn")) == "false" {
						for _, a := range st.Action {
							denied[a] = true
						}
					}
					continue
				}
			}
			for _, st := range s.permissions(t, id) {
				for _, a := range st.Action {
					if st.Effect == "Allow" && strings.Contains(a, "*") {
						t.Errorf("%s: %s allows %s; name the actions", id, st.Sid, a)
					}
					if st.Effect == "Allow" && slices.Contains(st.Resource, "*") && !star(a) {
						t.Errorf("%s: %s allows %s on everything", id, st.Sid, a)
					}
					if strings.HasPrefix(a, "ec2:") && !denied[a] {
						t.Errorf("%s: the function's own code may call %s; only Lambda needs it", id, a)
					}
				}
			}
		}
	})
}

// A function never calls KMS itself: its keys work through the service that they are for.
func TestKeysWorkThroughTheirServicesOnly(t *testing.T) {
	s := resolve(t, everything)
	want := map[string]string{everything["ParametersKmsKeyArn"]: "ssm." + region + ".amazonaws.com", everything["DataKmsKeyArn"]: "s3." + region + ".amazonaws.com"}
	for _, f := range functions {
		got := map[string]string{}
		for _, st := range s.permissions(t, s.roleOf(t, f)) {
			if slices.ContainsFunc(st.Action, func(a string) bool { return strings.HasPrefix(a, "kms:") }) {
				got[strings.Join(st.Resource, " ")] = text(at(st.Condition, "StringEquals", "kms:ViaService"))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: keys and the services that they work through (-want +got)\n%s", f, diff)
		}
	}
}

func TestTheSchedulerMayStartTheReplayAndNothingElse(t *testing.T) {
	s := resolve(t, createdCache)
	want := []statement{
		{Sid: "Tick", Effect: "Allow", Action: []string{"lambda:InvokeFunction"}, Resource: []string{text(s.attribute("ReplayFunction", "Arn"))}},
		{Sid: "KeepFailures", Effect: "Allow", Action: []string{"sqs:SendMessage"}, Resource: []string{text(s.attribute("TickFailures", "Arn"))}},
	}
	if diff := cmp.Diff(want, s.permissions(t, "SchedulerRole")); diff != "" {
		t.Errorf("permissions (-want +got)\n%s", diff)
	}
	trust := statements(s.Resources["SchedulerRole"].Properties["AssumeRolePolicyDocument"])
	if text(at(trust[0].Condition, "StringEquals", "aws:SourceAccount")) != account {
		t.Errorf("schedules of other accounts may assume the role: %v", trust)
	}
}

// The API may be called by IAM identities that have execute-api:Invoke, or with a
// token of the named issuer; by nobody else.
func TestNoRouteIsPublic(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		routes := s.of("AWS::ApiGatewayV2::Route")
		if len(routes) != 5 {
			t.Errorf("routes %v, want five", sorted(routes))
		}
		for id, r := range routes {
			kind, authorizer := text(r.Properties["AuthorizationType"]), text(r.Properties["AuthorizerId"])
			jwt := s.params["JwtIssuer"] != ""
			if !jwt && (kind != "AWS_IAM" || authorizer != "") || jwt && (kind != "JWT" || authorizer != text(s.attribute("JwtAuthorizer", "Ref"))) {
				t.Errorf("%s: authorization %q by %q", id, kind, authorizer)
			}
		}
		for id, a := range s.of("AWS::ApiGatewayV2::Authorizer") {
			c := obj(a.Properties["JwtConfiguration"])
			if text(c["Issuer"]) != s.params["JwtIssuer"] || fmt.Sprint(c["Audience"]) != "[ops ci]" {
				t.Errorf("%s takes %v", id, c)
			}
		}
		for id, stage := range s.of("AWS::ApiGatewayV2::Stage") {
			limits := obj(stage.Properties["DefaultRouteSettings"])
			if number(limits["ThrottlingRateLimit"]) < 1 || number(limits["ThrottlingBurstLimit"]) < 1 {
				t.Errorf("%s is not throttled: %v", id, limits)
			}
			logs := obj(stage.Properties["AccessLogSettings"])
			var line map[string]string
			if err := json.Unmarshal([]byte(text(logs["Format"])), &line); err != nil || text(logs["DestinationArn"]) == "" {
				t.Errorf("%s: access logs %v: %v", id, logs, err)
			}
			for _, secret := range []string{"$context.path", "$context.rawPath", "authorization", "$request."} {
				if strings.Contains(text(logs["Format"]), secret) {
					t.Errorf("%s logs %s", id, secret)
				}
			}
		}
		for id, p := range s.of("AWS::Lambda::Permission") {
			source := text(p.Properties["SourceArn"])
			if text(p.Properties["Principal"]) != "apigateway.amazonaws.com" || !strings.Contains(source, ":"+account+":"+text(s.attribute("Api", "Ref"))+"/") || !strings.Contains(source, "/v1/") {
				t.Errorf("%s lets in %v from %s", id, p.Properties["Principal"], source)
			}
		}
		if n := len(s.of("AWS::Lambda::Url")); n != 0 {
			t.Errorf("%d function URLs", n)
		}
	})
}
