//go:build full

package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The place of the stacks of these tests.
const (
	region    = "eu-central-1"
	account   = "123456789012"
	stackName = "backstop-test"
	stackID   = "arn:aws:cloudformation:" + region + ":" + account + ":stack/" + stackName + "/51af3dc0-da77-11e4-872e-1234567db123"
)

// object and list are what JSON holds.
type (
	object = map[string]any
	list   = []any
)

// transformed is template.yaml after the SAM transform, intrinsic functions and all.
var transformed = sync.OnceValues(func() (object, error) {
	template, err := os.Open(filepath.Join("..", "..", "template.yaml"))
	if err != nil {
		return nil, err
	}
	defer template.Close()
	cmd, err := python("transform.py")
	if err != nil {
		return nil, err
	}
	cmd.Stdin = template
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the SAM transform (pip install aws-sam-translator): %w\n%s", err, &stderr)
	}
	var doc object
	return doc, json.Unmarshal(out, &doc)
})

// python returns the command that runs a script of testdata. What it reads is read here: a
// result that the go command keeps is of files that the test's own process looked at.
func python(script string) (*exec.Cmd, error) {
	text, err := os.ReadFile(filepath.Join("testdata", script))
	cmd := exec.Command("python3", "-c", string(text))
	cmd.Env = append(os.Environ(), "AWS_DEFAULT_REGION="+region)
	return cmd, err
}

// stack is the template with parameters filled in: conditions decided, intrinsic
// functions computed. Values that only a deployment knows (ARNs, URLs) are made up from the
// resource's name.
type stack struct {
	Resources map[string]resource
	Outputs   object

	doc    object
	params map[string]string
}

// resource is one that the parameters let exist.
type resource struct {
	Type                string
	Properties          object
	DeletionPolicy      string
	UpdateReplacePolicy string
	needs               map[string]bool // resources that must exist before
}

// resolve returns the stack for parameters; those not named have their defaults.
func resolve(t *testing.T, params map[string]string) stack {
	t.Helper()
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	s := stack{doc: doc, params: params}
	for name, value := range params {
		p := obj(obj(doc["Parameters"])[name])
		if len(p) == 0 {
			t.Fatalf("the template has no parameter %s", name)
		}
		if pattern := text(p["AllowedPattern"]); pattern != "" && !regexp.MustCompile(pattern).MatchString(value) {
			t.Fatalf("%s=%s is refused: %s", name, value, pattern)
		}
	}
	s.compute()
	return s
}

func (s *stack) compute() {
	s.Resources = map[string]resource{}
	for id, v := range obj(s.doc["Resources"]) {
		raw := obj(v)
		if c := text(raw["Condition"]); c != "" && !s.condition(c) {
			continue
		}
		r := resource{
			Type: text(raw["Type"]), DeletionPolicy: text(raw["DeletionPolicy"]), UpdateReplacePolicy: text(raw["UpdateReplacePolicy"]),
			needs: map[string]bool{},
		}
		s.references(raw["Properties"], r.needs)
		s.references(raw["Metadata"], r.needs)
		for _, d := range strs(raw["DependsOn"]) {
			r.needs[d] = true
		}
		r.Properties = obj(s.eval(raw["Properties"]))
		s.Resources[id] = r
	}
	s.Outputs = object{}
	for name, v := range obj(s.doc["Outputs"]) {
		if c := text(obj(v)["Condition"]); c == "" || s.condition(c) {
			s.Outputs[name] = s.eval(obj(v)["Value"])
		}
	}
}

// of returns the resources of a type, by id.
func (s stack) of(kind string) map[string]resource {
	found := map[string]resource{}
	for id, r := range s.Resources {
		if r.Type == kind {
			found[id] = r
		}
	}
	return found
}

func (s stack) condition(name string) bool { return s.truth(obj(s.doc["Conditions"])[name]) }

func (s stack) truth(v any) bool {
	fn, arg := intrinsic(v)
	args, _ := arg.(list)
	switch fn {
	case "Condition":
		return s.condition(text(arg))
	case "Fn::Equals":
		return fmt.Sprint(s.eval(args[0])) == fmt.Sprint(s.eval(args[1]))
	case "Fn::Not":
		return !s.truth(args[0])
	case "Fn::And":
		return !slices.ContainsFunc(args, func(a any) bool { return !s.truth(a) })
	case "Fn::Or":
		return slices.ContainsFunc(args, s.truth)
	case "Fn::Contains": // of rules
		return slices.Contains(strs(s.eval(args[0])), text(s.eval(args[1])))
	}
	panic(fmt.Sprintf("condition %v", v))
}

// nothing is AWS::NoValue: the property is as if it were not there.
var nothing = &struct{ _ int }{}

var variable = regexp.MustCompile(`\$\{(!?)([^}]+)\}`)

func (s stack) eval(v any) any {
	switch v := v.(type) {
	case list:
		out := list{}
		for _, e := range v {
			if e = s.eval(e); e != any(nothing) {
				out = append(out, e)
			}
		}
		return out
	case object:
		if fn, arg := intrinsic(v); fn != "" {
			return s.call(fn, arg)
		}
		out := object{}
		for k, e := range v {
			if e = s.eval(e); e != any(nothing) {
				out[k] = e
			}
		}
		return out
	}
	return v
}

func (s stack) call(fn string, arg any) any {
	args, _ := arg.(list)
	switch fn {
	case "Ref":
		return s.ref(text(arg))
	case "Fn::GetAtt":
		return s.attribute(text(args[0]), text(args[1]))
	case "Fn::If":
		if s.condition(text(args[0])) {
			return s.eval(args[1])
		}
		return s.eval(args[2])
	case "Fn::Sub":
		return s.sub(arg)
	case "Fn::Join":
		return strings.Join(strs(s.eval(args[1])), text(args[0]))
	case "Fn::Split":
		out := list{}
		for part := range strings.SplitSeq(text(s.eval(args[1])), text(args[0])) {
			out = append(out, part)
		}
		return out
	case "Fn::Select":
		var i int
		_, _ = fmt.Sscan(fmt.Sprint(args[0]), &i)
		return array(s.eval(args[1]))[i]
	case "Fn::FindInMap":
		m := obj(obj(s.doc["Mappings"])[text(s.eval(args[0]))])
		return obj(m[text(s.eval(args[1]))])[text(s.eval(args[2]))]
	}
	panic("intrinsic function " + fn)
}

func (s stack) sub(arg any) any {
	format, vars := "", object{}
	switch arg := arg.(type) {
	case string:
		format = arg
	case list:
		format, vars = text(arg[0]), obj(arg[1])
	}
	var out strings.Builder
	at := 0
	for _, m := range variable.FindAllStringSubmatchIndex(format, -1) {
		out.WriteString(format[at:m[0]])
		at = m[1]
		name := format[m[4]:m[5]]
		switch v, given := vars[name]; {
		case m[2] != m[3]: // ${!Literal}
			out.WriteString("${" + name + "}")
		case given:
			out.WriteString(plain(s.eval(v)))
		default:
			if id, attr, ok := strings.Cut(name, "."); ok {
				out.WriteString(plain(s.attribute(id, attr)))
			} else {
				out.WriteString(plain(s.ref(name)))
			}
		}
	}
	return out.String() + format[at:]
}

// plain is a scalar as text; large numbers keep their digits.
func plain(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func (s stack) ref(name string) any {
	switch name {
	case "AWS::NoValue":
		return nothing
	case "AWS::Region":
		return region
	case "AWS::AccountId":
		return account
	case "AWS::Partition":
		return "aws"
	case "AWS::URLSuffix":
		return "amazonaws.com"
	case "AWS::StackName":
		return stackName
	case "AWS::StackId":
		return stackID
	}
	p, ok := obj(s.doc["Parameters"])[name]
	if !ok {
		return s.attribute(name, "Ref")
	}
	v, set := s.params[name]
	if !set {
		v = plain(obj(p)["Default"])
	}
	if text(obj(p)["Type"]) != "CommaDelimitedList" {
		return v
	}
	out := list{}
	for e := range strings.SplitSeq(v, ",") {
		out = append(out, e)
	}
	return out
}

// attribute returns what a deployment would know.
func (s stack) attribute(id, name string) any {
	raw, ok := obj(s.doc["Resources"])[id]
	if !ok {
		panic("no resource " + id)
	}
	kind, physical := text(obj(raw)["Type"]), stackName+"-"+id
	properties := obj(obj(raw)["Properties"])
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + region + ":" + account + ":" + rest
	}
	switch kind + "." + name {
	case "AWS::SQS::Queue.Arn":
		return arn("sqs", physical)
	case "AWS::SQS::Queue.Ref":
		return "https://sqs." + region + ".amazonaws.com/" + account + "/" + physical
	case "AWS::SQS::Queue.QueueName", "AWS::Lambda::Function.Ref":
		return physical
	case "AWS::Lambda::Function.Arn":
		return arn("lambda", "function:"+physical)
	case "AWS::Logs::LogGroup.Ref":
		return s.eval(properties["LogGroupName"])
	case "AWS::Logs::LogGroup.Arn":
		return arn("logs", "log-group:"+text(s.eval(properties["LogGroupName"]))+":*")
	case "AWS::ElastiCache::ServerlessCache.Ref":
		return s.eval(properties["ServerlessCacheName"])
	case "AWS::ElastiCache::ServerlessCache.ARN":
		return arn("elasticache", "serverlesscache:"+text(s.eval(properties["ServerlessCacheName"])))
	case "AWS::ElastiCache::ServerlessCache.Endpoint.Address":
		return "cache.serverless.euc1.cache.amazonaws.com"
	case "AWS::ElastiCache::ServerlessCache.Endpoint.Port":
		return "6379"
	case "AWS::ElastiCache::User.Ref":
		return s.eval(properties["UserId"])
	case "AWS::ElastiCache::User.Arn":
		return arn("elasticache", "user:"+text(s.eval(properties["UserId"])))
	case "AWS::ElastiCache::UserGroup.Ref":
		return s.eval(properties["UserGroupId"])
	case "AWS::S3::Bucket.Ref":
		return strings.ToLower(physical) + "-1a2b3c4d5e6f"
	case "AWS::S3::Bucket.Arn":
		return "arn:aws:s3:::" + text(s.attribute(id, "Ref"))
	case "AWS::IAM::Role.Arn":
		return "arn:aws:iam::" + account + ":role/" + physical
	case "AWS::IAM::Role.Ref":
		return physical
	case "AWS::ApiGatewayV2::Api.Ref":
		return "a1b2c3d4e5"
	case "AWS::IAM::ManagedPolicy.Ref":
		return "arn:aws:iam::" + account + ":policy/" + physical
	}
	return id + "." + name
}

// references collects the resources that v refers to and the parameters let exist.
func (s stack) references(v any, into map[string]bool) {
	note := func(id string) {
		raw, ok := obj(s.doc["Resources"])[id]
		if c := text(obj(raw)["Condition"]); ok && (c == "" || s.condition(c)) {
			into[id] = true
		}
	}
	switch v := v.(type) {
	case list:
		for _, e := range v {
			s.references(e, into)
		}
	case object:
		switch fn, arg := intrinsic(v); fn {
		case "Ref":
			note(text(arg))
		case "Fn::GetAtt":
			note(text(array(arg)[0]))
		case "Fn::If":
			i := 2
			if s.condition(text(array(arg)[0])) {
				i = 1
			}
			s.references(array(arg)[i], into)
		case "Fn::Sub":
			format := arg
			if l, ok := arg.(list); ok {
				format = l[0]
				s.references(l[1], into)
			}
			for _, m := range variable.FindAllStringSubmatch(text(format), -1) {
				id, _, _ := strings.Cut(m[2], ".")
				note(id)
			}
		default:
			for _, e := range v {
				s.references(e, into)
			}
		}
	}
}

func intrinsic(v any) (fn string, arg any) {
	m, ok := v.(object)
	if !ok || len(m) != 1 {
		return "", nil
	}
	for k, a := range m {
		// A policy statement's Condition is no reference to a condition.
		if _, named := a.(string); k == "Ref" || strings.HasPrefix(k, "Fn::") || k == "Condition" && named {
			return k, a
		}
	}
	return "", nil
}

// obj returns an object, empty when v is none.
func obj(v any) object {
	m, _ := v.(object)
	return m
}

// array returns a list, empty when v is none.
func array(v any) list {
	l, _ := v.(list)
	return l
}

// text returns a text, empty when v is none.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// strs returns a list of texts; a single one may stand for itself.
func strs(v any) []string {
	if s, ok := v.(string); ok {
		return []string{s}
	}
	var out []string
	l, _ := v.(list)
	for _, e := range l {
		out = append(out, text(e))
	}
	return out
}

// at follows keys into v.
func at(v any, keys ...string) any {
	for _, k := range keys {
		v = obj(v)[k]
	}
	return v
}

// number returns a number, however the template writes it; -1 when v is none.
func number(v any) int {
	n, err := strconv.Atoi(plain(v))
	if err != nil {
		return -1
	}
	return n
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// subnets are two, as SubnetIds takes them.
const subnets = "subnet-0a1b2c3d,subnet-4e5f6a7b"

// sinkResources are what sinks may send through.
const sinkResources = "arn:aws:ses:" + region + ":" + account + ":identity/example.com,arn:aws:sns:" + region + ":" + account + ":events"

// Variants that differ in what they create.
var (
	createdCache = map[string]string{"VpcId": "vpc-0123abcd", "SubnetIds": subnets}
	noVpc        = map[string]string{
		"RedisUrl": "rediss://cache.example.com:6380", "RedisCluster": "false", "RedisPasswordParameter": "/backstop/prod/redis",
		"JournalBucket": "letters-of-ours",
	}
	noJournal  = map[string]string{"RedisUrl": "rediss://cache.example.com:6380", "Journal": "false"}
	everything = map[string]string{
		"VpcId": "vpc-0123abcd", "SubnetIds": subnets, "SecurityGroupIds": "sg-1,sg-2", "CreateEndpoints": "true",
		"RouteTableIds": "rtb-0a1b2c3d,rtb-4e5f6a7b",
		"HttpProxy":     "http://proxy:3128", "HttpsProxy": "http://proxy:3128", "NoProxy": ".amazonaws.com", "Fifo": "true",
		"RedisUrl": "rediss://cache.example.com:6379", "RedisIamUser": "backstop", "RedisIamCache": "cache-1",
		"ParametersKmsKeyArn": "arn:aws:kms:" + region + ":" + account + ":key/parameters",
		"DataKmsKeyArn":       "arn:aws:kms:" + region + ":" + account + ":key/data",
		"JwtIssuer":           "https://issuer.example.com", "JwtAudience": "ops,ci", "ReservedConcurrency": "20", "CorsAllowOrigins": "https://ops.example.com,https://admin.example.com",
		"AlarmTopicArn": "arn:aws:sns:" + region + ":" + account + ":alarms", "SinkResources": sinkResources,
	}
	variants = map[string]map[string]string{"created cache": createdCache, "no VPC": noVpc, "everything": everything, "no journal": noJournal}
)

// eachVariant runs a check on each of them.
func eachVariant(t *testing.T, check func(t *testing.T, s stack)) {
	t.Helper()
	for name, params := range variants {
		t.Run(name, func(t *testing.T) { check(t, resolve(t, params)) })
	}
}
