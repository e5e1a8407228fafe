package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// planted is in every configured value: no output may have it.
const planted = "s3cr3t-value"

func hook(n string) string {
	return "kind: webhook\nurl: https://hooks.example.com/" + planted + "/" + n + "\n"
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noSecret checks that nothing configured is shown.
func (r result) noSecret(t *testing.T) {
	t.Helper()
	if strings.Contains(r.out+r.err, planted) {
		t.Errorf("a configured value is shown:\n%s%s", r.out, r.err)
	}
}

func TestConfigCheckNamesPlaceAndKey(t *testing.T) {
	good := folder(t, map[string]string{"ops.yaml": hook("1")})
	run(t, "config", "check", good).want(t, 0, "no faults", "")
	run(t, "config", "check", "file:"+good).want(t, 0, "no faults", "")

	bad := folder(t, map[string]string{"ops.yaml": "kind: webhook\nurll: https://" + planted + ".example.com\n", "fine.yaml": hook("2")})
	r := run(t, "config", "check", bad)
	r.noSecret(t)
	r.want(t, 1, filepath.Join(bad, "ops.yaml")+":2:1: ops: urll: ", "2 faults found")
	if !strings.Contains(r.out, `did you mean "url"?`) {
		t.Errorf("no suggestion: %s", r.out)
	}

	r = run(t, "config", "check", bad, "-o", "json")
	r.noSecret(t)
	var got struct {
		Findings []struct {
			Sink, Key, Suggestion string
			Line                  int
		}
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 1 || len(got.Findings) != 2 || got.Findings[0].Key != "urll" || got.Findings[0].Line != 2 || got.Findings[0].Suggestion != "url" {
		t.Errorf("exit code %d, JSON %s (%v)", r.code, r.out, err)
	}
	run(t, "config", "check", good, "-o", "json").want(t, 0, `{"findings":[]}`, "")
	run(t, "config", "check", filepath.Join(good, "nowhere")).want(t, 1, "", "no such file")
}

// A note says that a value may not be meant, and ends nothing.
func TestConfigCheckTellsNotesFromFaults(t *testing.T) {
	mail := "kind: email\nsmtp_addr: mx.example.org:465\nfrom: a@b.example\n"
	noted := folder(t, map[string]string{"mail.yaml": mail})
	run(t, "config", "check", noted).want(t, 0, filepath.Join(noted, "mail.yaml")+":1:1: note: mail: tls: ", "")
	run(t, "config", "check", noted).want(t, 0, "no faults", "")
	run(t, "config", "check", noted, "-o", "json").want(t, 0, `"note":true`, "")
	both := folder(t, map[string]string{"mail.yaml": mail, "ops.yaml": "kind: webhook\n"})
	run(t, "config", "check", both).want(t, 1, "note: mail: tls: ", "1 fault found")
	t.Setenv("AWS_REGION", "eu-west-1")
	run(t, "config", "push", noted, "ssm:/prod/sinks").want(t, exitUnauthorized, "note: mail: tls: ", "no usable AWS credentials") // it got that far
}

func TestConfigCheckNeedsCredentialsOnlyForParameters(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	dir := folder(t, map[string]string{"ops.yaml": "kind: webhook\nurl: {ssm: /prod/url}\n"})
	run(t, "config", "check", dir).want(t, exitUnauthorized, "", "no usable AWS credentials")
	run(t, "config", "check", "ssm:/prod/sinks").want(t, exitUnauthorized, "", "no usable AWS credentials")
}

func TestConfigPushAndCheckAgainstParameters(t *testing.T) {
	c := ssm.NewFromConfig(useMoto(t))
	dir := folder(t, map[string]string{"a.yaml": hook("a"), "b.yaml": hook("b"), "c.yaml": hook("c")})
	push := func(args ...string) result {
		t.Helper()
		r := run(t, append([]string{"config", "push", dir}, args...)...)
		r.noSecret(t)
		return r
	}
	stored := func() map[string]string {
		t.Helper()
		out, err := c.GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: aws.String("/prod/sinks"), WithDecryption: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, p := range out.Parameters {
			all[*p.Name] = *p.Value
			if p.Type != types.ParameterTypeSecureString {
				t.Errorf("%s is a %s", *p.Name, p.Type)
			}
		}
		return all
	}
	write := func(name, value string) {
		t.Helper()
		_, err := c.PutParameter(t.Context(), &ssm.PutParameterInput{
			Name: &name, Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true), KeyId: aws.String("alias/own"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("/prod/sinks/a", hook("a"))
	write("/prod/sinks/b", hook("old"))
	write("/prod/sinks/gone", hook("gone"))
	write("/prod/sinks/deeper/x", hook("x")) // not directly under the path: not ours

	difference := "/prod/sinks/a     unchanged\n/prod/sinks/b     changed\n/prod/sinks/c     new\n/prod/sinks/gone  extra"
	push("ssm:/prod/sinks", "--dry-run").want(t, 0, difference+"\n", "")
	push("ssm:/prod/sinks").want(t, exitUsage, difference+"\n", "--yes")
	if got := stored(); got["/prod/sinks/b"] != hook("old") || len(got) != 3 {
		t.Errorf("a push that was not confirmed wrote %v", slices.Sorted(maps.Keys(got)))
	}

	var stderr terminal
	r := runWith(t, t.Context(), typed("y\n"), &stderr, "config", "push", dir, "ssm:/prod/sinks/*")
	r.noSecret(t)
	r.want(t, 0, "wrote /prod/sinks/b\nwrote /prod/sinks/c\n", "Write 2 parameters under /prod/sinks? [y/N] ")
	want := map[string]string{"/prod/sinks/a": hook("a"), "/prod/sinks/b": hook("b"), "/prod/sinks/c": hook("c"), "/prod/sinks/gone": hook("gone")}
	if got := stored(); !maps.Equal(got, want) {
		t.Errorf("stored %v, want %v", got, want)
	}
	described, err := c.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range described.Parameters {
		if *p.Name == "/prod/sinks/b" && aws.ToString(p.KeyId) != "alias/own" {
			t.Errorf("a changed parameter moved to key %q", aws.ToString(p.KeyId))
		}
	}

	push("ssm:/prod/sinks", "--prune", "--yes").want(t, 0, "deleted /prod/sinks/gone\n", "")
	delete(want, "/prod/sinks/gone")
	if got := stored(); !maps.Equal(got, want) {
		t.Errorf("after pruning %v, want %v", got, want)
	}
	push("ssm:/prod/sinks").want(t, 0, "unchanged", "") // nothing to do, nothing to ask

	t.Run("what was pushed is valid", func(t *testing.T) {
		run(t, "config", "check", "ssm:/prod/sinks/*").want(t, 0, "ssm:/prod/sinks/*: no faults", "")
		run(t, "config", "check", "ssm:/prod/sinks").want(t, exitNotFound, "", "write 'ssm:/prod/sinks/*'")
	})
	t.Run("a fault ends the push", func(t *testing.T) {
		bad := folder(t, map[string]string{"a.yaml": "kind: webhok\nurl: https://" + planted + "\n"})
		r := run(t, "config", "push", bad, "ssm:/prod/sinks", "--yes")
		r.noSecret(t)
		r.want(t, 1, `did you mean "webhook"?`, "1 fault found")
		if got := stored(); !maps.Equal(got, want) {
			t.Errorf("a faulty push changed the parameters")
		}
	})
	t.Run("a parameter that is not encrypted is refused", func(t *testing.T) {
		if _, err := c.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/open/sinks/a"), Value: aws.String("x"), Type: types.ParameterTypeString}); err != nil {
			t.Fatal(err)
		}
		push("ssm:/open/sinks", "--yes").want(t, 1, "", "/open/sinks/a is a String, not encrypted")
	})
	t.Run("one document", func(t *testing.T) {
		file := filepath.Join(folder(t, map[string]string{"all.yaml": "sinks:\n  a: {kind: webhook, url: \"https://" + planted + ".example.com\"}\n"}), "all.yaml")
		for _, want := range []string{"new", "unchanged"} {
			r := run(t, "config", "push", file, "ssm:/one/document", "--yes")
			r.noSecret(t)
			r.want(t, 0, "/one/document  "+want, "")
		}
		run(t, "config", "check", "ssm:/one/document").want(t, 0, "no faults", "")
		run(t, "config", "push", file, "ssm:/one/document/*").want(t, exitUsage, "", "name one parameter, ssm:/one/document")
	})
	t.Run("too long for a parameter", func(t *testing.T) {
		long := folder(t, map[string]string{"a.yaml": hook("a") + "# " + strings.Repeat("x", 9000)})
		run(t, "config", "push", long, "ssm:/prod/sinks", "--yes").want(t, exitUsage, "", "a parameter holds 8192")
	})
}

func TestAServiceThatRepeatsTheValueIsNotQuoted(t *testing.T) {
	err := withoutValue(&types.ParameterPatternMismatchException{Message: aws.String("value '" + planted + "' is wrong")}, planted)
	if err == nil || strings.Contains(err.Error(), planted) || !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("got %v", err)
	}
}
