package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"backstop/client"
)

const editItem = `{"id":"mail~1-0","sink":"mail","message":{"id":"m","subject":"Hello","body":"line one\nline two\nline three\n","metadata":{"tenant":"t3"}},"recipient":{"address":"a@example.com"},"attempts":5,"last_error":"x","state":"waiting"}`

const editSent = `{"status":"delivered","id":"mail~2-0","superseded_by":"mail~2-0","attempts":1}`

// editor sets EDITOR to a script, which gets the file as $1, and counts its calls in $0.n.
func editor(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	path := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nset -e\necho x >>$0.n\n"+script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", path)
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(dir, "backstop-*")); len(left) > 0 && !t.Failed() {
			t.Logf("left: %v", left)
		}
	})
}

// left are the texts that commands have kept.
func left(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "backstop-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAMessageIsEditedAndSent(t *testing.T) {
	for _, tt := range []struct {
		name, script, typed string
		args                []string
		replies             []reply
		code                int
		sent                string // of the replay; empty: none
		out, err            string
		kept                bool
	}{
		{
			name: "a body", script: `sed -i 's/line two/line 2/' $1`, typed: "y\n", replies: []reply{ok(editSent)},
			sent: `{"message":{"body":"line one\nline 2\nline three\n"}}`,
			out:  "delivered  mail~2-0  (in place of mail~1-0)\n",
			err:  "      line one\n-     line two\n+     line 2\n      line three\n",
		},
		{
			name: "all of it", script: `printf 'subject: New\nbody: b\nmetadata: {}\nrecipient: {address: b@example.com}\n' >$1`, args: []string{"--yes"}, replies: []reply{ok(editSent)},
			sent: `{"message":{"subject":"New","body":"b","metadata":{}},"recipient":{"address":"b@example.com"}}`,
		},
		{name: "what is taken out stays", script: `printf 'body: ""\n' >$1`, args: []string{"--yes"}, replies: []reply{ok(editSent)}, sent: `{"message":{"body":""}}`},
		{name: "the sink's own recipient", script: `printf 'recipient: null\n' >$1`, args: []string{"--yes"}, replies: []reply{ok(editSent)}, sent: `{"recipient":null}`},
		{name: "another sink alone", script: `:`, args: []string{"--yes", "--to-sink", "ops"}, replies: []reply{ok(editSent)}, sent: `{"sink":"ops"}`},
		{name: "unchanged", script: `:`, err: "Nothing was changed: nothing was sent.\n"},
		{name: "comments are no change", script: `sed -i '/^#/d' $1`, err: "Nothing was changed"},
		{name: "a no", script: `sed -i s/Hello/Bye/ $1`, typed: "n\n", code: exitFailed, err: "not confirmed: nothing was done", kept: true},
		{name: "nobody to ask", script: `sed -i s/Hello/Bye/ $1`, code: exitUsage, err: "add --yes", kept: true},
		{name: "a broken one, opened again", script: `if [ $(wc -l <$0.n) = 1 ]; then echo 'bdy: x' >$1; else echo 'body: x' >$1; fi`, typed: "y\ny\n", replies: []reply{ok(editSent)}, sent: `{"message":{"body":"x"}}`, err: "line 1: field bdy not found"},
		{name: "a broken one, given up", script: `printf 'subject: x\n\tbody: x' >$1`, typed: "n\n", code: exitFailed, err: "It cannot be read: line 2", kept: true},
		{name: "an editor that fails", script: `exit 3`, code: exitFailed, err: "nothing was sent"},
		{name: "refused", script: `sed -i s/Hello/Bye/ $1`, args: []string{"--yes"}, replies: []reply{problem(400, "INVALID_ARGUMENT")}, sent: `{"message":{"subject":"Bye"}}`, code: exitUsage, err: "The text is in ", kept: true},
		{name: "it fails again", script: `sed -i s/Hello/Bye/ $1`, args: []string{"--yes"}, replies: []reply{ok(`{"status":"failed","id":"mail~2-0","superseded_by":"mail~2-0","error":"SMTP 451"}`)}, sent: `{"message":{"subject":"Bye"}}`, code: exitFailed, out: "failed     mail~2-0  (in place of mail~1-0)  SMTP 451\n"},
		{name: "superseded before", script: `exit 3`, replies: []reply{}, code: exitConflict, err: "superseded by mail~9-0: edit that one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			editor(t, tt.script)
			item := editItem
			if tt.name == "superseded before" {
				item = strings.Replace(item, `"state"`, `"superseded_by":"mail~9-0","state"`, 1)
			}
			api := newAPI(t, append([]reply{ok(item)}, tt.replies...)...)
			var screen terminal
			var in interface{ Read([]byte) (int, error) } = strings.NewReader("")
			if tt.typed != "" {
				in = typed(tt.typed)
			}
			r := runWith(t, t.Context(), in, &screen, append([]string{"dlq", "replay", "--edit", "mail~1-0"}, tt.args...)...)
			r.want(t, tt.code, tt.out, tt.err)
			want := []string{"GET /v1/dlq/items/mail~1-0"}
			if tt.sent != "" {
				want = append(want, "POST /v1/dlq/items/mail~1-0/replay "+tt.sent)
			}
			if got := api.asked(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if n := len(left(t)); (n > 0) != tt.kept {
				t.Errorf("%d texts are left, want some: %t", n, tt.kept)
			}
		})
	}
}

func TestAnEditComesFromAFile(t *testing.T) {
	editor(t, "exit 3")
	file := filepath.Join(t.TempDir(), "fix.json")
	if err := os.WriteFile(file, []byte(`{"body":"repaired","metadata":{"tenant":"t4"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	api := newAPI(t, ok(editItem), ok(editSent))
	run(t, "dlq", "replay", "--edit", "--file", file, "--yes", "mail~1-0", "-o", "json").want(t, 0, editSent, "-     tenant: t3\n+     tenant: t4\n")
	if got := api.asked()[1]; got != `POST /v1/dlq/items/mail~1-0/replay {"message":{"body":"repaired","metadata":{"tenant":"t4"}}}` {
		t.Error(got)
	}
	calls := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; r.Method != http.MethodGet {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(editItem))
	}))
	t.Cleanup(s.Close)
	runWith(t, t.Context(), strings.NewReader("body: x"), &terminal{}, "dlq", "replay", "--edit", "--file", "-", "--yes", "mail~1-0", "--api", s.URL).want(t, exitUnavailable, "", "nothing is sent twice")
	if calls != 2 {
		t.Errorf("%d calls, want no repetition", calls)
	}
	for _, args := range [][]string{
		{"--edit"}, {"--edit", "a~1-0", "b~1-0"}, {"--file", file, "a~1-0"}, {"--edit", "--file", "/nowhere", "a~1-0"}, {"--edit", "--sink", "a", "a~1-0"}, {"--edit", "--sink", "a"},
	} {
		newAPI(t, ok(editItem))
		run(t, append([]string{"dlq", "replay"}, args...)...).want(t, exitUsage, "", "")
	}
}

// What is opened and saved as it was is no change, whatever is in it.
func TestEveryMessageCanBeEdited(t *testing.T) {
	for _, body := range []string{"", "x", "a\nb", "a\nb\n\n", " a", "a ", "\t", "a\r\nb", "- x: #", "null", "12", "true", "2026-01-01", "é\u2028\x00", "{\"a\":[1,2.50,1e30]}", "'\"`", "%!&*", strings.Repeat("long ", 500)} {
		it := client.Item{ID: "a~1-0", Recipient: json.RawMessage(`{"n":12345678901234567890,"f":1.0,"s":"` + "12" + `","x":[null,true]}`)}
		it.Message.Subject, it.Message.Body, it.Message.Metadata = body, body, map[string]string{"k": body}
		text, before, err := editable(it)
		if err != nil {
			t.Errorf("%q: %v", body, err)
			continue
		}
		after, err := readEdited([]byte("# head\n" + text))
		if err != nil {
			t.Errorf("%q: %v in\n%s", body, err, text)
			continue
		}
		var o client.ReplayOptions
		if changed, err := before.changes(after, &o); changed || err != nil || *before.Body != body {
			t.Errorf("%q: changed %t, %v: %+v", body, changed, err, o.Message)
		}
	}
}

func TestManyAreSentThroughAnotherSink(t *testing.T) {
	ask := `POST /v1/dlq/operations {"action":"replay","filter":{"sink":"mail","meta":{"tenant":"t3"}},"sink":"ops","dry_run":true}`
	for _, tt := range []struct{ dry, out string }{
		{`{"dry_run":true,"action":"replay","count":3,"complete":true,"looked":3,"sink":"ops","sample":[],"by_sink":{}}`, "Would replay 3 dead letters of sink mail, with metadata \"tenant=t3\" through ops.\nNone of them was ever tried again since it failed.\nops takes all of their recipients.\n"},
		{`{"dry_run":true,"action":"replay","count":3000,"complete":true,"looked":1000,"sink":"ops","refused":2,"refusal":"recipient: want an address","sample":[],"by_sink":{}}`, "ops could never send 2 of the 1000 that were looked at, which stay: recipient: want an address\n"},
	} {
		api := newAPI(t, ok(tt.dry))
		run(t, "dlq", "replay", "--sink", "mail", "--meta", "tenant=t3", "--to-sink", "ops", "--dry-run").want(t, 0, tt.out, "")
		if got := api.asked(); len(got) != 1 || got[0] != ask {
			t.Errorf("asked %q, want %q", got, ask)
		}
	}
}

func TestMetadataIsAskedFor(t *testing.T) {
	api := newAPI(t, ok(`{"items":[],"groups":[],"next_cursor":null}`))
	run(t, "dlq", "list", "--meta", "tenant=t3", "--meta", "zone=a,b=c").want(t, 0, "", `No dead letters with metadata "tenant=t3, zone=a,b=c".`)
	run(t, "dlq", "groups", "--meta", "tenant=t3").want(t, 0, "", "No dead letters")
	want := []string{"GET /v1/dlq/items?limit=50&meta=tenant%3Dt3&meta=zone%3Da%2Cb%3Dc", "GET /v1/dlq/groups?meta=tenant%3Dt3"}
	if got := api.asked(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked %q, want %q", got, want)
	}
	for _, bad := range [][]string{{"--meta", "tenant"}, {"--meta", "=x"}, {"--meta", "a=1", "--meta", "a=2"}} {
		run(t, append([]string{"dlq", "list"}, bad...)...).want(t, exitUsage, "", "")
	}
}
