//go:build full

package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// with returns parameters with some changed.
func with(params map[string]string, changed ...string) map[string]string {
	params = maps.Clone(params)
	for i := 0; i < len(changed); i += 2 {
		params[changed[i]] = changed[i+1]
	}
	return params
}

// What waits in the journal is somebody's: it is private, encrypted, and kept when the stack goes.
func TestTheJournalsBucketIsPrivateEncryptedAndKept(t *testing.T) {
	for _, key := range []string{"", everything["DataKmsKeyArn"]} {
		s := resolve(t, with(createdCache, "DataKmsKeyArn", key))
		b := s.Resources["Bucket"]
		if b.DeletionPolicy != keptExceptOnCreate || b.UpdateReplacePolicy != "Retain" || b.Properties["BucketName"] != nil {
			t.Errorf("%s, %s, named %v: want it kept, and no name that an update could change", b.DeletionPolicy, b.UpdateReplacePolicy, b.Properties["BucketName"])
		}
		for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			if at(b.Properties, "PublicAccessBlockConfiguration", block) != true {
				t.Errorf("%s is off", block)
			}
		}
		encryption := map[string]any{"ServerSideEncryptionByDefault": object{"SSEAlgorithm": "AES256"}}
		if key != "" {
			encryption = object{"BucketKeyEnabled": true, "ServerSideEncryptionByDefault": object{"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
		}
		if diff := cmp.Diff(list{encryption}, at(b.Properties, "BucketEncryption", "ServerSideEncryptionConfiguration")); diff != "" {
			t.Errorf("key %q: encryption (-want +got)\n%s", key, diff)
		}
		if diff := cmp.Diff(list{object{"ObjectOwnership": "BucketOwnerEnforced"}}, at(b.Properties, "OwnershipControls", "Rules")); diff != "" {
			t.Errorf("others may own objects (-want +got)\n%s", diff)
		}
		policies := s.of("AWS::S3::BucketPolicy")
		if len(policies) != 1 {
			t.Fatalf("%d policies of buckets", len(policies))
		}
		for id, p := range policies {
			want := []statement{{
				Sid: "TlsOnly", Effect: "Deny", Principal: "*", Action: []string{"s3:*"}, Condition: object{"Bool": object{"aws:SecureTransport": "false"}},
				Resource: []string{text(s.attribute("Bucket", "Arn")), text(s.attribute("Bucket", "Arn")) + "/*"},
			}}
			if diff := cmp.Diff(want, statements(p.Properties["PolicyDocument"])); diff != "" || p.Properties["Bucket"] != s.attribute("Bucket", "Ref") {
				t.Errorf("%s of %v (-want +got)\n%s", id, p.Properties["Bucket"], diff)
			}
			if p.DeletionPolicy != keptExceptOnCreate {
				t.Errorf("%s goes while the bucket stays", id)
			}
		}
	}
}

// An age says nothing of whether a dead letter is still open: no rule takes an object away that
// is current.
func TestNothingThatIsOpenGoesByItsAge(t *testing.T) {
	p := resolve(t, createdCache).Resources["Bucket"].Properties
	want := list{
		object{"Id": "old-versions", "Status": "Enabled", "NoncurrentVersionExpiration": object{"NoncurrentDays": 7.0}, "ExpiredObjectDeleteMarker": true},
		object{"Id": "incomplete-uploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": object{"DaysAfterInitiation": 7.0}},
	}
	if diff := cmp.Diff(want, at(p, "LifecycleConfiguration", "Rules")); diff != "" {
		t.Errorf("rules (-want +got)\n%s", diff)
	}
	if at(p, "VersioningConfiguration", "Status") != "Enabled" {
		t.Error("a letter that was deleted by mistake is gone at once")
	}
}

// ofJournal says in a line what a stack has of a journal.
func ofJournal(t *testing.T, s stack) string {
	t.Helper()
	var has []string
	for id := range s.Resources {
		switch s.Resources[id].Type {
		case "AWS::S3::Bucket", "AWS::S3::BucketPolicy":
			has = append(has, id)
		case "AWS::EC2::VPCEndpoint":
			if s.Resources[id].Properties["VpcEndpointType"] == "Gateway" {
				has = append(has, id)
			}
		}
	}
	slices.Sort(has)
	buckets, told := map[string]bool{}, 0
	for _, f := range functions {
		for _, st := range s.permissions(t, s.roleOf(t, f)) {
			if slices.Contains(st.Action, "s3:ListBucket") {
				buckets[f+" "+strings.Join(st.Resource, " ")] = true
			}
		}
	}
	for _, f := range functions {
		if uri := s.environment(f)["BACKSTOP_JOURNAL"]; uri != "" {
			bucket := strings.TrimSuffix(strings.TrimPrefix(uri, "s3://"), "/backstop")
			if !buckets[f+" arn:aws:s3:::"+bucket] || "s3://"+bucket+"/backstop" != uri {
				t.Errorf("%s is told of %s, and may use %v", f, uri, sorted(buckets))
			}
			told++
		}
	}
	if told != len(buckets) {
		t.Errorf("%d functions are told of a journal, and %d may use one", told, len(buckets))
	}
	switch len(buckets) {
	case 0:
		has = append(has, "no rights")
	case len(functions):
		_, arn, _ := strings.Cut(sorted(buckets)[0], " ")
		has = append(has, "rights on "+arn)
	default:
		has = append(has, fmt.Sprintf("rights of some: %v", sorted(buckets)))
	}
	return strings.Join(has, ", ")
}

// There is a journal where the functions can reach S3, and only there: calls into the void would
// make each failure slow.
func TestThereIsAJournalWhereS3CanBeReached(t *testing.T) {
	const (
		made  = "Bucket, BucketPolicy, rights on arn:aws:s3:::backstop-test-bucket-1a2b3c4d5e6f"
		gated = "Bucket, BucketPolicy, S3Endpoint, rights on arn:aws:s3:::backstop-test-bucket-1a2b3c4d5e6f"
		own   = "rights on arn:aws:s3:::letters-of-ours"
		none  = "no rights"
	)
	closed := with(createdCache, "CreateEndpoints", "true")
	tables := "rtb-0a1b2c3d,rtb-4e5f6a7b"
	for _, tt := range []struct {
		name   string
		params map[string]string
		want   string
	}{
		{"no VPC", with(noVpc, "JournalBucket", ""), made},
		{"no VPC, own bucket", noVpc, own},
		{"no VPC, but endpoints asked for", with(noVpc, "CreateEndpoints", "true"), own},
		{"a VPC with a way out", createdCache, made},
		{"a VPC with a way out, own bucket", with(createdCache, "JournalBucket", "letters-of-ours"), own},
		{"a VPC with a way out, and a gateway to spare its costs", with(createdCache, "RouteTableIds", tables), gated},
		{"a VPC with endpoints of others, S3's too", with(createdCache, "RouteTableIds", "existing"), made},
		{"no way out", closed, none}, // and refused by a rule
		{"no way out, own bucket", with(closed, "JournalBucket", "letters-of-ours"), none},
		{"no way out, but a gateway", with(closed, "RouteTableIds", tables), gated},
		{"no way out, but a gateway of others", with(closed, "RouteTableIds", "existing"), made},
		{"not wanted", noJournal, none},
		{"not wanted, with a way", with(createdCache, "Journal", "false", "RouteTableIds", tables), none},
	} {
		if got := ofJournal(t, resolve(t, tt.params)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// What a full queue does is what was asked for, and without a journal nothing is spilled. The queue's cap is
// the same for all that push.
func TestWhatAFullQueueDoes(t *testing.T) {
	for _, tt := range []struct {
		journal, asked, want string
	}{
		{"true", "", "spill"},
		{"true", "spill", "spill"},
		{"true", "reject", "reject"},
		{"true", "trim", "trim"},
		{"false", "", "reject"},
		{"false", "spill", "reject"},
		{"false", "reject", "reject"},
		{"false", "trim", "trim"},
	} {
		params := with(createdCache, "Journal", tt.journal)
		if tt.asked != "" {
			params["DlqOverflow"] = tt.asked
		}
		s := resolve(t, params)
		for _, f := range functions {
			if got := s.environment(f)["BACKSTOP_DLQ_OVERFLOW"]; got != tt.want {
				t.Errorf("Journal=%s DlqOverflow=%s: %s does %q, want %q", tt.journal, tt.asked, f, got, tt.want)
			}
		}
	}
}

// Journal=false leaves nothing behind: no resource, right, variable or alarm speaks of it.
func TestWithoutAJournalNothingIsLeftOfIt(t *testing.T) {
	words := regexp.MustCompile(`(?i)s3:|journal|spill|queuelost|damaged`)
	for name, params := range map[string]map[string]string{"no VPC": noJournal, "everything": with(everything, "Journal", "false")} {
		s := resolve(t, params)
		for id, r := range s.Resources {
			if r.Type == "AWS::CloudWatch::Dashboard" {
				continue // its widgets stay empty, as those of a cache that the stack did not create
			}
			b, err := json.Marshal(r.Properties)
			if err != nil {
				t.Fatal(err)
			}
			if found := words.FindAllString(id+" "+r.Type+" "+string(b), -1); found != nil || strings.HasPrefix(r.Type, "AWS::S3::") {
				t.Errorf("%s: %s speaks of %q", name, id, found)
			}
		}
		if s.Outputs["JournalBucket"] != nil {
			t.Errorf("%s: output %v", name, s.Outputs["JournalBucket"])
		}
	}
	if s := resolve(t, createdCache); !words.MatchString(fmt.Sprint(s.Resources["FunctionAccess"].Properties)) {
		t.Error("the words find nothing in a stack with a journal either")
	}
}

// A gateway is no hole: whoever is in these subnets reaches the journal with it, as far as his role goes,
// and no other bucket.
func TestTheGatewayLetsNothingThroughButTheJournal(t *testing.T) {
	for name, params := range map[string]map[string]string{"made": everything, "own": with(everything, "JournalBucket", "letters-of-ours", "KeyPrefix", "mine")} {
		s := resolve(t, params)
		e := s.Resources["S3Endpoint"].Properties
		if text(e["ServiceName"]) != "com.amazonaws."+region+".s3" || text(e["VpcId"]) != everything["VpcId"] || strings.Join(strs(e["RouteTableIds"]), ",") != everything["RouteTableIds"] {
			t.Errorf("%s: %v", name, e)
		}
		for _, k := range []string{"SubnetIds", "SecurityGroupIds", "PrivateDnsEnabled"} { // a gateway is refused with one of them
			if e[k] != nil {
				t.Errorf("%s: %s of a gateway", name, k)
			}
		}
		gate := statements(e["PolicyDocument"])
		if len(gate) != 1 || gate[0].Effect != "Allow" || text(at(gate[0].Condition, "StringEquals", "aws:PrincipalAccount")) != account {
			t.Fatalf("%s: %+v, want one for this account", name, gate)
		}
		// What the roles may do goes through it, and nothing else does.
		used := map[string]bool{}
		for _, f := range functions {
			for _, st := range s.permissions(t, s.roleOf(t, f)) {
				for _, a := range st.Action {
					if !strings.HasPrefix(a, "s3:") {
						continue
					}
					used[a] = true
					for _, r := range st.Resource {
						passes := slices.ContainsFunc(gate[0].Resource, func(pattern string) bool { return matches(pattern, r) })
						if !passes || !slices.Contains(gate[0].Action, a) {
							t.Errorf("%s: %s may call %s on %s, which the gateway holds up", name, f, a, r)
						}
					}
				}
			}
		}
		for _, a := range gate[0].Action {
			if !used[a] {
				t.Errorf("%s: the gateway lets %s through, which no role may call", name, a)
			}
		}
		for _, other := range []string{"arn:aws:s3:::other", "arn:aws:s3:::other/mine/open/x", "arn:aws:s3:::letters-of-ours/theirs/x"} {
			if slices.ContainsFunc(gate[0].Resource, func(pattern string) bool { return matches(pattern, other) }) {
				t.Errorf("%s: the gateway lets calls on %s through: %v", name, other, gate[0].Resource)
			}
		}
	}
}

// The folders that the roles may touch are those that the journal writes.
func TestTheRolesKnowTheJournalsFolders(t *testing.T) {
	var folders []string
	for _, m := range regexp.MustCompile(`(?m)^\t\w+Folder\s+= "(\w+)/"$`).FindAllStringSubmatch(read(t, "lib", "journal", "journal.go"), -1) {
		folders = append(folders, m[1])
	}
	slices.Sort(folders)
	s := resolve(t, createdCache)
	within := map[string]bool{}
	for _, st := range s.permissions(t, "ReplayRole") {
		for _, r := range st.Resource {
			if path, ok := strings.CutPrefix(r, text(s.attribute("Bucket", "Arn"))+"/backstop/"); ok {
				within[strings.TrimSuffix(path, "/*")] = true
			}
		}
	}
	if got := sorted(within); !slices.Equal(got, folders) || len(folders) != 3 {
		t.Errorf("the role reaches %v; the journal writes %v", got, folders)
	}
}

// refusedBy returns the rules that refuse parameters, with what they say.
func refusedBy(t *testing.T, params map[string]string) map[string]string {
	t.Helper()
	s := resolve(t, params)
	refused := map[string]string{}
	for name, rule := range obj(s.doc["Rules"]) {
		if c := obj(rule)["RuleCondition"]; c != nil && !s.truth(c) {
			continue
		}
		for _, a := range array(obj(rule)["Assertions"]) {
			if !s.truth(obj(a)["Assert"]) {
				refused[name] = text(obj(a)["AssertDescription"])
			}
		}
	}
	return refused
}

// Parameters that do not go together are refused before anything is created, and the refusal says what
// to set.
func TestParametersThatDoNotGoTogetherAreRefused(t *testing.T) {
	closed := with(createdCache, "CreateEndpoints", "true")
	for _, tt := range []struct {
		name   string
		params map[string]string
		by     string
		say    []string
	}{
		{"no way to S3", closed, "AJournalNeedsAWayToS3", []string{"RouteTableIds", "existing", "Journal=false"}},
		{"no way to S3, own bucket", with(closed, "JournalBucket", "letters-of-ours"), "AJournalNeedsAWayToS3", []string{"RouteTableIds"}},
		{"a bucket and no journal", with(noJournal, "JournalBucket", "letters-of-ours"), "ABucketNeedsItsJournal", []string{"Journal=true"}},
		{"tables and no VPC", with(noVpc, "RouteTableIds", "rtb-0a1b2c3d"), "RouteTablesNeedTheirVpc", []string{"VpcId"}},
		{"a cache and no VPC", map[string]string{}, "ANewCacheNeedsAVpc", []string{"VpcId", "RedisUrl"}},
		{"a VPC and no subnets", with(createdCache, "SubnetIds", ""), "AVpcNeedsSubnets", []string{"SubnetIds"}},
		{"subnets and no VPC", with(noVpc, "SubnetIds", subnets), "SubnetsNeedTheirVpc", []string{"VpcId"}},
		{"tokens for anybody", with(noVpc, "JwtIssuer", "https://issuer.example.com"), "TokensNeedAnAudience", []string{"JwtAudience"}},
		{"no way to S3, and none needed", with(closed, "Journal", "false"), "", nil},
		{"a gateway", with(closed, "RouteTableIds", "rtb-0a1b2c3d"), "", nil},
		{"a gateway of others", with(closed, "RouteTableIds", "existing"), "", nil},
		{"own bucket", with(createdCache, "JournalBucket", "letters-of-ours"), "", nil},
	} {
		got := refusedBy(t, tt.params)
		says, ok := got[tt.by]
		if tt.by == "" && len(got) > 0 || tt.by != "" && (!ok || len(got) != 1) {
			t.Errorf("%s: refused by %v, want %q", tt.name, sorted(got), tt.by)
		}
		for _, word := range tt.say {
			if !strings.Contains(says, word) {
				t.Errorf("%s: %q does not name %s", tt.name, says, word)
			}
		}
	}
	for name, params := range variants {
		if got := refusedBy(t, params); len(got) > 0 {
			t.Errorf("%s is refused by %v", name, sorted(got))
		}
	}
}

func TestNamesOfBucketsAndRouteTablesAreLookedAt(t *testing.T) {
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	for parameter, values := range map[string]map[string]bool{
		"JournalBucket": {
			"": true, "letters-of-ours": true, "letters.of.ours": true, "l3t": true,
			"s3://letters": false, "letters/prefix": false, "arn:aws:s3:::letters": false, "Letters": false, "-letters": false, "ab": false, "letters_of_ours": false, "letters..ours": false,
			strings.Repeat("l", 63): true, strings.Repeat("l", 64): false,
		},
		"RouteTableIds": {
			"": true, "existing": true, "rtb-0a1b2c3d": true, "rtb-0123456789abcdef0,rtb-0a1b2c3d": true,
			"rtb-0a1b2c3d, rtb-4e5f6a7b": false, "rtb-0a1b2c3d,": false, "existing,rtb-0a1b2c3d": false, "subnet-0a1b2c3d": false, "Existing": false,
		},
	} {
		pattern := regexp.MustCompile(text(at(doc, "Parameters", parameter, "AllowedPattern")))
		for value, want := range values {
			if got := pattern.MatchString(value); got != want {
				t.Errorf("%s=%q is taken: %v, want %v", parameter, value, got, want)
			}
		}
	}
}
