//go:build full

package stack_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// role is who may do what: of the API's roles, the one that an operation needs.
type role string

const (
	sender, reader, operatorRole role = "send", "read", "operate"
)

// operation is one of the API.
type operation struct{ method, path string }

// roles are those that the operation is for: sending is a producer's, who may also stop what he
// sent; reading changes nothing; and all else is an operator's.
func (o operation) roles() []role {
	switch {
	case o.path == "/v1/messages":
		return []role{sender}
	case o == cancel:
		return []role{sender, operatorRole}
	case o.method == "GET":
		return []role{reader, operatorRole}
	}
	return []role{operatorRole}
}

var cancel = operation{"DELETE", "/v1/deliveries"}

// operations are those of docs/openapi.yaml, with something in the place of parameters.
func operations(t *testing.T) []operation {
	t.Helper()
	var doc struct{ Paths map[string]map[string]any }
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.yaml"))
	if err == nil {
		err = yaml.Unmarshal(b, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, item := range doc.Paths {
		for method := range item {
			if slices.Contains([]string{"get", "post", "put", "patch", "delete"}, method) {
				all = append(all, operation{strings.ToUpper(method), regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "ops~1795449913008-0")})
			}
		}
	}
	if len(all) < 15 {
		t.Fatalf("only %d operations", len(all))
	}
	if !slices.Contains(all, cancel) {
		all = append(all, cancel)
	}
	return all
}

// route returns the properties of the route that API Gateway would choose: the one that
// names the path, else the greedy one of the method; nil for none.
func (s stack) route(o operation) object {
	var greedy object
	for _, r := range s.of("AWS::ApiGatewayV2::Route") {
		switch method, path, _ := strings.Cut(text(r.Properties["RouteKey"]), " "); {
		case method != o.method && method != "ANY":
		case path == o.path:
			return r.Properties
		case path == "/v1/{proxy+}" && strings.HasPrefix(o.path, "/v1/"):
			greedy = r.Properties
		}
	}
	return greedy
}

// With tokens, each operation needs a scope of its role: who may send may neither read
// what failed nor discard it.
func TestEachOperationNeedsItsScope(t *testing.T) {
	tokens, signed := resolve(t, everything), resolve(t, createdCache)
	for _, o := range operations(t) {
		r := tokens.route(o)
		if r == nil {
			t.Errorf("%v has no route", o)
			continue
		}
		var scopes []string
		for _, role := range o.roles() {
			scopes = append(scopes, "backstop/"+string(role))
		}
		if got := strs(r["AuthorizationScopes"]); !slices.Equal(got, scopes) {
			t.Errorf("%v takes tokens with %q, want %q", o, got, scopes)
		}
		if got := signed.route(o)["AuthorizationScopes"]; got != nil {
			t.Errorf("%v: scopes %v without tokens", o, got)
		}
	}
}

// The outputs' policies let each role do its operations and no others.
func TestThePoliciesOfTheOutputsAreThoseOfTheRoles(t *testing.T) {
	s := resolve(t, createdCache)
	may := map[role]string{sender: "SenderPolicy", reader: "ReaderPolicy", operatorRole: "OperatorPolicy"}
	all := map[string]bool{}
	for of, output := range may {
		var document object
		if err := json.Unmarshal([]byte(text(s.Outputs[output])), &document); err != nil {
			t.Fatalf("%s: %v in %s", output, err, s.Outputs[output])
		}
		if n := len(text(s.Outputs[output])); n > 1024 {
			t.Errorf("%s has %d bytes", output, n)
		}
		var invoke []string
		for _, st := range statements(document) {
			for _, a := range st.Action {
				all[a+" "+strings.Join(st.Resource, " ")] = true
			}
			if slices.Equal(st.Action, []string{"execute-api:Invoke"}) && st.Effect == "Allow" {
				invoke = append(invoke, st.Resource...)
			}
		}
		for _, o := range operations(t) {
			arn := "arn:aws:execute-api:" + region + ":" + account + ":" + text(s.attribute("Api", "Ref")) + "/$default/" + o.method + o.path
			got := slices.ContainsFunc(invoke, func(pattern string) bool { return matches(pattern, arn) })
			if want := slices.Contains(o.roles(), of); got != want {
				t.Errorf("%s allows %v: %v, want %v", output, o, got, want)
			}
		}
	}
	for action, id := range map[string]string{"sqs:SendMessage": "Messages", "lambda:InvokeFunction": "SendFunction"} {
		if !all[action+" "+text(s.attribute(id, "Arn"))] {
			t.Errorf("a sender may not call %s of %s: %v", action, id, all)
		}
	}
}

// API Gateway may call each route's function, and under the path of that route only: a greedy
// path covers no path that another route names.
func TestEachRouteMayCallItsFunction(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		for id, r := range s.of("AWS::ApiGatewayV2::Route") {
			method, path, _ := strings.Cut(text(r.Properties["RouteKey"]), " ")
			arn := "arn:aws:execute-api:" + region + ":" + account + ":" + text(s.attribute("Api", "Ref")) + "/$default/" + method + path
			var function any
			for i, integration := range s.of("AWS::ApiGatewayV2::Integration") {
				if text(r.Properties["Target"]) == "integrations/"+text(s.attribute(i, "Ref")) {
					function = integration.Properties["IntegrationUri"]
				}
			}
			allowed := false
			for _, p := range s.of("AWS::Lambda::Permission") {
				for _, f := range functions {
					called := s.attribute(f, "Ref") == p.Properties["FunctionName"] && s.attribute(f, "Arn") == function
					allowed = allowed || called && matches(text(p.Properties["SourceArn"]), arn)
				}
			}
			if !allowed {
				t.Errorf("%s: no permission to call %v as %s", id, function, arn)
			}
		}
	})
}

// A page's preflight has no credentials: API Gateway answers it itself, where CORS is
// configured and no route takes OPTIONS.
func TestPagesOfNamedOriginsMayCallTheAPI(t *testing.T) {
	with, without := resolve(t, everything), resolve(t, createdCache)
	if c := without.Resources["Api"].Properties["CorsConfiguration"]; c != nil {
		t.Errorf("without CorsAllowOrigins pages of any origin may call: %v", c)
	}
	c := obj(with.Resources["Api"].Properties["CorsConfiguration"])
	if got := strs(c["AllowOrigins"]); strings.Join(got, ",") != everything["CorsAllowOrigins"] {
		t.Errorf("origins %v, want %s", got, everything["CorsAllowOrigins"])
	}
	if c["AllowCredentials"] != nil {
		t.Error("cookies are allowed; the API takes none")
	}
	for _, o := range operations(t) {
		if !slices.Contains(strs(c["AllowMethods"]), o.method) {
			t.Errorf("pages may not %v", o)
		}
		if r := with.route(operation{"OPTIONS", o.path}); r != nil {
			t.Errorf("%v takes the preflight of %s away from API Gateway", r["RouteKey"], o.path)
		}
	}
	for _, header := range []string{"authorization", "content-type", "idempotency-key", "prefer"} {
		if !slices.Contains(strs(c["AllowHeaders"]), header) {
			t.Errorf("pages may not send %s", header)
		}
	}
	for _, header := range []string{"location", "preference-applied", "retry-after"} {
		if !slices.Contains(strs(c["ExposeHeaders"]), header) {
			t.Errorf("pages may not read %s", header)
		}
	}
}

// No value in a line of the access log can break its JSON: API Gateway does not quote the
// values that it fills in, and writes - for a missing one.
func TestTheAccessLogIsJSONWhateverHappens(t *testing.T) {
	format := text(at(resolve(t, createdCache).Resources["ApiStage"].Properties, "AccessLogSettings", "Format"))
	variables := regexp.MustCompile(`\$context\.[\w.]+`)
	words := []string{ // numbers, ids, names that AWS or the issuer chooses from letters that need no quoting
		"$context.requestId", "$context.requestTime", "$context.routeKey", "$context.status", "$context.responseLatency",
		"$context.identity.userArn", "$context.authorizer.claims.sub", "$context.error.responseType",
	}
	for _, v := range variables.FindAllString(format, -1) {
		if !slices.Contains(words, v) {
			t.Errorf("%s may hold a quote", v)
		}
	}
	var line map[string]string
	if err := json.Unmarshal([]byte(variables.ReplaceAllString(format, "-")), &line); err != nil || len(line) != len(words) {
		t.Errorf("%s: %v", format, err)
	}
	if strings.Contains(format, "\n") {
		t.Error("API Gateway refuses a format of several lines")
	}
}

func TestTwoSubnetsOrMoreAreAskedFor(t *testing.T) {
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	p := obj(at(doc, "Parameters", "SubnetIds"))
	pattern := regexp.MustCompile(text(p["AllowedPattern"]))
	for value, want := range map[string]bool{
		"": true, "subnet-0a1b2c3d": false, subnets: true, "subnet-0123456789abcdef0,subnet-0123456789abcdef1,subnet-0123456789abcdef2": true,
		"subnet-0a1b2c3d, subnet-4e5f6a7b": false, "subnet-0a1b2c3d,": false, ",": false, "vpc-0a1b2c3d,subnet-4e5f6a7b": false,
	} {
		if got := pattern.MatchString(value); got != want {
			t.Errorf("%q is taken: %v, want %v", value, got, want)
		}
	}
	if text(p["ConstraintDescription"]) == "" {
		t.Error("the refusal would show a pattern")
	}
	s := resolve(t, createdCache)
	for id, ids := range map[string]any{"SendFunction": at(s.Resources["SendFunction"].Properties, "VpcConfig", "SubnetIds"), "Cache": s.Resources["Cache"].Properties["SubnetIds"]} {
		if got := strs(ids); strings.Join(got, ",") != subnets || len(got) != 2 {
			t.Errorf("%s lives in %q", id, got)
		}
	}
	for name, parameters := range map[string][]string{"AVpcNeedsSubnets": {"VpcId", "SubnetIds"}, "SubnetsNeedTheirVpc": {"VpcId", "SubnetIds"}} {
		rule, err := json.Marshal(at(doc, "Rules", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parameters {
			if !strings.Contains(string(rule), `"`+p+`"`) {
				t.Errorf("rule %s does not ask for %s: %s", name, p, rule)
			}
		}
	}
}
