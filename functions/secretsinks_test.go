package functions_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// echo is a receiver that answers with everything that it was sent, in the way that
// the last part of the path names.
func echo(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	user, pass, _ := r.BasicAuth()
	said := fmt.Sprintf("%s %s %s %s", r.URL, user, pass, dump)
	mode := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if code, err := strconv.Atoi(mode); err == nil {
		w.Header().Set("X-Echo", strings.Join(strings.Fields(said), " "))
		w.Header().Set("Location", r.URL.String()+"&again")
		w.Header().Set("Retry-After", r.URL.String())
		w.WriteHeader(code)
		_, _ = io.WriteString(w, said)
		return
	}
	if mode == "hang" {
		<-r.Context().Done()
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	line := strings.Join(strings.Fields(said), " ")
	for name, text := range map[string]string{
		"garbage":   said,
		"status":    "HTTP/1.1 2x0 " + line + "\r\n\r\n",
		"version":   "HTTP/" + line + " 200 OK\r\n\r\n",
		"header":    "HTTP/1.1 200 OK\r\n" + line + "\r\n\r\n",
		"length":    "HTTP/1.1 200 OK\r\nContent-Length: " + line + "\r\n\r\n",
		"encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + line + "\r\n\r\n",
		"chunk":     "HTTP/1.1 500 " + line + "\r\nTransfer-Encoding: chunked\r\n\r\n" + line + "\r\n",
		"cut":       "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + said,
		"continue":  "HTTP/1.1 100 " + line + "\r\n\r\n",
		"switching": "HTTP/1.1 101 " + line + "\r\nUpgrade: " + line + "\r\n\r\n",
		"upgrade":   "HTTP/1.1 101 " + line + "\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n" + line,
		"unasked":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + line,
	} {
		if name == mode {
			_, _ = io.WriteString(conn, text)
		}
	}
	if mode == "upgrade" {
		_, _ = io.Copy(io.Discard, conn) // the connection stays
	}
}

var echoModes = []string{
	"200", "204", "301", "307", "400", "401", "403", "404", "407", "408", "410", "429", "500", "503", "hang", "garbage", "status", "version",
	"header", "length", "encoding", "chunk", "cut", "continue", "switching", "upgrade", "unasked", "reset",
}

// faultyBlocks are configurations with secrets that cannot be used.
func faultyBlocks() []string {
	p := planted
	whole := "https://" + p["url user"] + ":" + p["url password"] + "@receiver.example/" + p["url path"] + "?k=" + p["url query"]
	signing := "whsec_" + base64.StdEncoding.EncodeToString([]byte(p["signing secret"]))
	return []string{
		"kind: webhook\nurl: [" + whole + "]\n",
		"kind: webhook\nurl: {" + p["url path"] + "}\n",
		"kind: webhook\nurl: {" + p["url path"] + ": " + p["url query"] + "}\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "https", "ftp", 1) + "\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "receiver.example", "receiver.example:port", 1) + "\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "receiver.example", "[::1", 1) + "\n",
		"kind: webhook\nurl: \"" + strings.Replace(whole, "receiver", "\\x7f", 1) + "\"\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "?k=", "%zz?k=", 1) + "\n",
		"kind: webhook\nurl " + whole + "\n",
		"kind: webhook\nurl: '" + whole + "\n",
		"kind: webhook\nurl: *" + p["url path"] + "\n",
		"kind: webhook\nurl: !" + p["url path"] + " x\n",
		"kind: webhook\nurl: {ssm: " + p["url path"] + "}\n",
		"kind: webhook\nurl: {ssm: /backstop/denied}\n",
		"kind: webhook\nurl: {ssm: /backstop/absent}\nheaders: {A: {ssm: /backstop/secret}, Host: {ssm: /backstop/secret}}\n",
		"kind: webhook\nurl: {ssm: /backstop/secret}\nformat: {ssm: /backstop/secret}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: [" + p["header"] + "]\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Authorization: Bearer, " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Authorization: [" + p["header"] + "]}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Host: " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {X-A: \"a\\r\\nb" + p["header"] + "\"}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {\"Bearer " + p["header"] + "\": x}\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: " + signing + "\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: [whsec_!" + p["signing secret"] + "]\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: [{" + signing + "}]\n",
		"kind: webhook\nurl: " + whole + "\nformat: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\non_ambiguous: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\nallowed_hosts: [" + whole + "]\n",
		"kind: webhook\nurl: " + whole + "\nretry: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\nretry: {base_backoff: " + p["header"] + ", max_attempts: " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nurl: " + whole + "\n",
		"kind: " + p["header"] + "\nurl: " + whole + "\n",
		"kind: webhook\nurls: " + whole + "\n",
		whole + "\n",
		"- " + whole + "\n",
		"kind: webhook\n---\nurl: " + whole + "\n",
		"kind: webhook\n\turl: " + whole + "\n",
		"kind: slack\nwebhook_url: /services/" + p["slack path"] + "\n",
		"kind: slack\nwebhook_url: hooks.slack.com/services/" + p["slack path"] + "\n",
		"kind: slack\nwebhook_url: {https://hooks.slack.com/services/" + p["slack path"] + "}\n",
		"kind: slack\nwebhook-url: https://hooks.slack.com/services/" + p["slack path"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: [" + p["smtp password"] + "]\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: {" + p["smtp password"] + "}\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_pass: " + p["smtp password"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: " + p["smtp password"] + "\ntls: none\n",
		"kind: email\nsmtp_addr: u:" + p["smtp password"] + "@mx.example:25\nfrom: a@b.example\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: " + p["smtp password"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\ntls: " + p["smtp password"] + "\n",
	}
}

// sweptSinks writes the sinks of the sweep and returns their names.
func sweptSinks(t *testing.T, dir string, receivers map[string]string) []string {
	t.Helper()
	var names []string
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	p := planted
	quick := "retry: {max_attempts: 2, base_backoff: 10ms, attempt_timeout: 400ms}\n"
	webhook := func(scheme, host, mode string) string {
		return "kind: webhook\n" + quick +
			"url: " + scheme + "://" + p["url user"] + ":" + p["url password"] + "@" + host + "/" + p["url path"] + "/" + mode + "?k=" + p["url query"] + "#f\n" +
			"headers: {Authorization: Bearer " + p["header"] + ", X-Api-Key: " + p["custom header"] + ", X-Referred: {ssm: /backstop/secret}}\n" +
			"signing_secrets: [whsec_" + base64.StdEncoding.EncodeToString([]byte(p["signing secret"])) + "]\nallow_private_recipients: true\n"
	}
	slack := func(scheme, host, mode string) string {
		return "kind: slack\n" + quick + "webhook_url: " + scheme + "://" + host + "/services/" + p["slack path"] + "/" + mode + "\n"
	}
	for _, mode := range echoModes {
		write("webhook-"+mode, webhook("http", receivers["plain"], mode))
		write("slack-"+mode, slack("http", receivers["plain"], mode))
	}
	// Without a header of its own, the URL's credentials are what is sent.
	write("webhook-basic", strings.Replace(webhook("http", receivers["plain"], "401"), "Authorization", "X-Authorization", 1))
	for what, at := range map[string][2]string{
		"bad-certificate": {"https", receivers["tls"]},
		"no-tls":          {"https", receivers["plain"]},
		"no-http":         {"http", receivers["tls"]},
		"refused":         {"http", receivers["closed"]},
		"no-host":         {"http", "nosuch.invalid:1"},
		"smtp":            {"http", receivers["smtp"]},
		"bad-proxy":       {"http", "receiver.proxied.example"},
	} {
		write("webhook-"+what, webhook(at[0], at[1], "200"))
		write("slack-"+what, slack(at[0], at[1], "200"))
	}
	email := "kind: email\n" + quick + "from: a@b.example\nauth_user: robot\nauth_pass: " + p["smtp password"] + "\n"
	write("email-mail", email+"tls: none\nsmtp_addr: "+receivers["smtp"]+"\n")
	write("email-starttls", email+"smtp_addr: "+receivers["smtp"]+"\n")
	write("email-implicit", email+"tls: implicit\nsmtp_addr: "+receivers["tls"]+"\n")
	write("email-http", email+"tls: none\nsmtp_addr: "+receivers["plain"]+"\n")
	write("email-refused", email+"tls: none\nsmtp_addr: "+receivers["closed"]+"\n")
	for i, text := range faultyBlocks() {
		write(fmt.Sprintf("faulty-%02d", i), text)
	}
	return names
}
