package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"backstop/internal/kinds"
	"backstop/lib/sinks"
)

func TestSinkKindsListsEveryKind(t *testing.T) {
	registered := sinks.FactoryKinds()
	table := run(t, "sink", "kinds")
	table.want(t, 0, "KIND ", "")
	for _, kind := range registered {
		if !regexp.MustCompile(`(?m)^` + kind + ` +\S`).MatchString(table.out) {
			t.Errorf("the table has no %s", kind)
		}
	}
	for _, line := range []string{
		`webhook +recognised +\[url\] +HTTP requests .*`, `email +not recognised +address +Mail .*`, `slack +not recognised +- +Slack .*`,
		`telegram +not recognised +\[chat_id\] +Telegram .*`, `matrix +recognised for 30m +\[room\] +Matrix .*`, `http +as its block says +as its block says +Any .*`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(table.out) {
			t.Errorf("no line is %s:\n%s", line, table.out)
		}
	}
	var got struct {
		Kinds []struct {
			Kind, About string
			Keys        []struct{ Key, Type string }
			Answers     []struct{ Answer, Means string }
		}
	}
	r := run(t, "sink", "kinds", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range got.Kinds {
		names = append(names, k.Kind)
		if k.About == "" || len(k.Answers) == 0 || len(k.Keys) == 0 {
			t.Errorf("of %s there is not all: %+v", k.Kind, k)
		}
	}
	if !slices.Equal(names, registered) {
		t.Errorf("the kinds are %v, want %v", names, registered)
	}
}

// optional is a key that an example has commented out.
var optional = regexp.MustCompile(`(?m)^#([a-z_]+: .*)$`)

// Every example is valid and says where values are to be put, and so it is with each of its optional keys.
func TestEveryExampleIsValidAndToBeFilledIn(t *testing.T) {
	all, err := kinds.All()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_REGION", "eu-west-1")
	for _, k := range all {
		t.Run(k.Name, func(t *testing.T) {
			r := run(t, "sink", "example", k.Name)
			r.want(t, 0, "\nkind: "+k.Name+"\n", "")
			if k.Sample != "" {
				r.want(t, 0, "kind: "+k.Name+"\n", "")
			}
			blocks := map[string]string{"required.yaml": r.out}
			commented := optional.FindAllStringSubmatch(r.out, -1)
			for _, m := range commented {
				name, _, _ := strings.Cut(m[1], ":")
				block := strings.Replace(r.out, m[0], m[1], 1)
				for _, key := range k.Keys {
					if key.Name == name && key.With != "" {
						block = strings.Replace(block, "\n#"+key.With+":", "\n"+key.With+":", 1)
					}
				}
				blocks[strings.ReplaceAll(name, "_", "-")+".yaml"] = block
			}
			secret, keys := false, 0
			for _, key := range k.Keys {
				secret = secret || key.Secret() && key.Required
				if !key.Required {
					keys++
				}
			}
			if n := len(commented); n != keys && k.Sample == "" {
				t.Errorf("%d keys are commented out, want %d", n, keys)
			}
			dir := folder(t, blocks)
			checked := run(t, "config", "check", dir)
			checked.want(t, 0, "no faults", "")
			for line := range strings.Lines(checked.out) {
				if !strings.Contains(line, ": note: ") && !strings.Contains(line, "no faults") {
					t.Error(line)
				}
			}
			required := folder(t, map[string]string{"required.yaml": r.out})
			// The request that it shows can be sent.
			to, err := k.To()
			if err != nil {
				t.Fatal(err)
			}
			m := k.Message()
			r.want(t, 0, `"message":{"subject":"`+m.Subject+`"`, "")
			run(t, "sink", "test", "required", "--sinks", required, "--recipient", string(to), "--subject", m.Subject, "--body", m.Body).want(t, 0, "://", "Nothing was sent")
			pushed := run(t, "config", "push", required, "ssm:/prod/sinks", "--yes")
			if secret {
				pushed.want(t, exitFailed, filepath.Join(required, "required.yaml")+":", "left: nothing is written\nPut your own values there. If one is meant, add --allow-placeholders.\n")
			}
			run(t, "config", "push", required, "ssm:/prod/sinks", "--yes", "--allow-placeholders").want(t, exitUnauthorized, "", "no AWS credentials were found") // it got that far
		})
	}
}

func TestSinkExampleOfNoKind(t *testing.T) {
	run(t, "sink", "example", "telegraph").want(t, exitNotFound, "", "no kind \"telegraph\"\nThere are ")
	run(t, "sink", "example").want(t, exitUsage, "", "accepts 1 arg(s)")
	run(t, "sink", "exmaple", "x").want(t, exitUsage, "", "did you mean example?")
}

func TestCompletionKnowsTheKinds(t *testing.T) {
	got := completions(t, "sink", "example", "")
	if len(got) != len(kinds.Names()) || !slices.Contains(got, "telegram\tTelegram messages by a bot.") {
		t.Errorf("offered %q", got)
	}
	if got := completions(t, "sink", "example", "telegram", ""); strings.Join(got, "") != "" {
		t.Errorf("offered %q after the kind", got)
	}
}
