package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// What `dlq show --as` prints is taken by a shell as it is, and holds the message to the last character.
func TestADeadLetterIsCopiedAsACommand(t *testing.T) {
	item := `{"id":"mail~1-0","state":"waiting","sink":"mail","delivery_id":"d","recipient":{"address":"o'neil@example.com"},"at":"2026-01-01T00:00:00Z",` +
		`"message":{"id":"d","subject":"it's $HOME","body":"line one\nline \"two\" \\ !","metadata":{"X-A":"b c","tenant":"t3"}},"last_error":"x","attempts":1}`
	words := func(command string) []string {
		t.Helper()
		b, err := exec.CommandContext(t.Context(), "sh", "-c", "set -- "+strings.TrimSpace(command)+`; for w in "$@"; do printf '%s\0' "$w"; done`).Output() //nolint:gosec // it is to be taken by a shell
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	}
	newAPI(t, ok(item))
	cli := words(run(t, "dlq", "show", "mail~1-0", "--as", "cli").out)
	want := []string{
		"backstop", "send", "--sink", "mail", "--recipient", `{"address":"o'neil@example.com"}`, "--subject", "it's $HOME", "--body", "line one\nline \"two\" \\ !",
		"--metadata", "X-A=b c", "--metadata", "tenant=t3",
	}
	if strings.Join(cli, "\x00") != strings.Join(want, "\x00") {
		t.Errorf("%q\nwant %q", cli, want)
	}
	newAPI(t, ok(item))
	curl := words(run(t, "dlq", "show", "mail~1-0", "--as", "curl").out)
	var sent struct {
		ID, Sink  string
		Recipient struct{ Address string }
		Message   struct {
			Subject, Body string
			Metadata      map[string]string
		}
	}
	if err := json.Unmarshal([]byte(curl[len(curl)-1]), &sent); err != nil || curl[0] != "curl" || !strings.HasSuffix(curl[2], "/v1/messages") {
		t.Fatalf("%q: %v", curl, err)
	}
	if sent.ID == "" || sent.ID == "d" || sent.Sink != "mail" || sent.Recipient.Address != "o'neil@example.com" || sent.Message.Subject != "it's $HOME" ||
		sent.Message.Body != "line one\nline \"two\" \\ !" || sent.Message.Metadata["tenant"] != "t3" {
		t.Errorf("it sends %+v", sent)
	}
	for args, want := range map[string]string{
		"--token S3CRET": ` -H "Authorization: Bearer $BACKSTOP_TOKEN" `,
		"--sign":         ` --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "X-Amz-Security-Token: $AWS_SESSION_TOKEN" `,
	} {
		t.Setenv("AWS_REGION", "eu-central-1")
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIA")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "S3CRET")
		newAPI(t, ok(item))
		if r := run(t, append([]string{"dlq", "show", "mail~1-0", "--as", "curl"}, strings.Fields(args)...)...); !strings.Contains(r.out, want) || strings.Contains(r.out, "S3CRET") {
			t.Errorf("%s: %q", args, r.out)
		}
	}
	run(t, "dlq", "show", "mail~1-0", "--as", "poem").want(t, exitUsage, "", "want curl or cli")

	t.Setenv("BACKSTOP_CONSOLE_URL", "http://127.0.0.1:3003/")
	newAPI(t, ok(item))
	run(t, "dlq", "show", "mail~1-0").want(t, exitDone, "mail~1-0", "http://127.0.0.1:3003/#/items/mail~1-0")
}
