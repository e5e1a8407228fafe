//go:build full

package stack_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
)

// eventually polls until a condition holds.
var eventually = await.True

// deployment is what an emulator says of a stack.
type deployment struct {
	Status    string
	Resources map[string]struct{ Type, ID string }
	Roles     map[string]struct {
		Trust  any
		Inline map[string]any
	}
	Policies map[string]struct {
		ARN      string
		Document any
	}
}

// emulated are the types that the emulator has a model of. It answers for all others
// too, queue policies and what is attached to a role among them, but what it says of
// those means nothing.
var emulated = []string{"AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"}

// deploy creates the stack's queues, bucket, roles and policies in the emulator, the queues and
// the bucket under the names that s has made up for them.
func deploy(t *testing.T, endpoint string, s stack) deployment {
	t.Helper()
	resources := object{}
	for id, r := range s.Resources {
		if !slices.Contains(emulated, r.Type) {
			continue
		}
		properties := maps.Clone(r.Properties)
		switch r.Type {
		case "AWS::SQS::Queue":
			properties["QueueName"] = s.attribute(id, "QueueName")
		case "AWS::S3::Bucket":
			properties["BucketName"] = s.attribute(id, "Ref")
		}
		first := list{}
		for _, other := range sorted(r.needs) {
			if slices.Contains(emulated, s.Resources[other].Type) {
				first = append(first, other)
			}
		}
		resources[id] = object{"Type": r.Type, "Properties": properties, "DependsOn": first}
	}
	order, err := json.Marshal(object{
		"endpoint": endpoint, "region": region, "name": stackName,
		"template": object{"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := python("deploy.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(order)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("deploy: %v\n%s", err, &stderr)
	}
	var d deployment
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	if d.Status != "CREATE_COMPLETE" || len(d.Resources) != len(resources) {
		t.Fatalf("%s with %d of %d resources", d.Status, len(d.Resources), len(resources))
	}
	return d
}

// Roles and policies are what the template says, read back from IAM.
func checkRoles(t *testing.T, d deployment, s stack) {
	t.Helper()
	want := sorted(s.of("AWS::IAM::Role"))
	if got := sorted(d.Roles); !slices.Equal(got, want) {
		t.Fatalf("roles %v, want %v", got, want)
	}
	for id, got := range d.Roles {
		p := s.Resources[id].Properties
		if diff := cmp.Diff(p["AssumeRolePolicyDocument"], got.Trust); diff != "" {
			t.Errorf("%s: who may assume it (-template +IAM)\n%s", id, diff)
		}
		inline := map[string]any{}
		policies, _ := p["Policies"].(list)
		for _, one := range policies {
			inline[text(obj(one)["PolicyName"])] = obj(one)["PolicyDocument"]
		}
		if diff := cmp.Diff(inline, got.Inline); diff != "" {
			t.Errorf("%s: its own policies (-template +IAM)\n%s", id, diff)
		}
	}
	for id, got := range d.Policies {
		if diff := cmp.Diff(s.Resources[id].Properties["PolicyDocument"], got.Document); diff != "" {
			t.Errorf("%s (-template +IAM)\n%s", id, diff)
		}
	}
	if len(d.Policies) != 1 {
		t.Errorf("policies %v", slices.Collect(maps.Keys(d.Policies)))
	}
}
