package local_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"backstop/internal/local"
)

// deadFunctions returns a folder with functions that cannot run.
func deadFunctions(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"send", "replay", "dlq-api"} {
		if err := os.MkdirAll(filepath.Join(bin, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, name, "bootstrap"), []byte("#!/bin/false\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// start starts a stack whose functions cannot run; nothing here invokes one.
func start(t *testing.T) *local.Stack {
	t.Helper()
	s, err := local.Start(t.Context(), local.Options{Bin: deadFunctions(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Any web page could send through a developer's sinks, or read with a name of its own
// that resolves to 127.0.0.1 (DNS rebinding).
func TestEveryLocalServerRefusesOtherSitesPages(t *testing.T) {
	s := start(t)
	servers := map[string]string{ // a request that each of them answers
		"the HTTP API":        "GET " + s.APIURL + "/nowhere",
		"the Invoke API":      "POST " + s.InvokeURL + "/2015-03-31/functions/no-such-function/invocations",
		"the inbox":           "GET " + s.Inbox.ControlURL + "/arrivals",
		"the inbox's buttons": "POST " + s.Inbox.ControlURL + "/heal?path=/hook",
		"the inbox's hooks":   "POST " + s.Inbox.URL + "/hook",
		"the queue":           "POST " + s.QueueURL,
	}
	pages := map[string]struct {
		headers []string
		status  int // 0: whatever it answers a program
	}{
		"curl or the AWS CLI":              {nil, 0},
		"the address bar":                  {[]string{"Sec-Fetch-Site", "none"}, 0},
		"a rebound name":                   {[]string{"Host", "attacker.example"}, http.StatusMisdirectedRequest},
		"another site":                     {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://attacker.example"}, http.StatusForbidden},
		"a form of another site":           {[]string{"Origin", "https://attacker.example", "Content-Type", "text/plain"}, http.StatusForbidden},
		"an image of another site":         {[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Dest", "image"}, http.StatusForbidden},
		"a page of another port":           {[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:8080"}, http.StatusForbidden},
		"a sandboxed frame without origin": {[]string{"Origin", "null"}, http.StatusForbidden},
	}
	for name, server := range servers {
		method, url, _ := strings.Cut(server, " ")
		usual := send(t, method, url)
		if usual == http.StatusForbidden || usual == http.StatusMisdirectedRequest {
			t.Errorf("%s: a program gets %d", name, usual)
		}
		for page, want := range pages {
			if want.status == 0 {
				want.status = usual
			}
			before := len(s.Inbox.HTTP.Arrivals())
			if got := send(t, method, url, want.headers...); got != want.status {
				t.Errorf("%s: %s gets %d, want %d", name, page, got, want.status)
			}
			if came := len(s.Inbox.HTTP.Arrivals()) - before; want.status != usual && came != 0 {
				t.Errorf("%s: what %s sent arrived", name, page)
			}
		}
	}
}

// send returns the status of the answer.
func send(t *testing.T, method, url string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// A page's form can reach ports that speak no HTTP too; what stands in its body must not
// be taken for commands.
func TestAFormIsNoConversationWithMailServerOrRedis(t *testing.T) {
	s := start(t)
	form := func(addr, body string) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+addr+"\r\nOrigin: https://attacker.example\r\nContent-Type: text/plain\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s keeps the connection: %v", addr, err)
		}
	}
	form(s.Inbox.SMTPAddr, "HELO page\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: forged\r\n\r\nx\r\n.\r\nQUIT\r\n")
	if mails := s.Inbox.Mail.Mails(); len(mails) != 0 {
		t.Errorf("the page sent %v", mails)
	}
	form(s.Redis.Addr(), "*3\r\n$3\r\nSET\r\n$6\r\nforged\r\n$1\r\nx\r\n*1\r\n$4\r\nQUIT\r\n")
	if s.Redis.Exists("forged") {
		t.Error("the page wrote to the embedded Redis")
	}
}
