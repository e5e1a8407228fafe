package inbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"backstop/internal/await"
	"backstop/internal/inbox"
)

func start(t *testing.T, o inbox.Options) *inbox.Inbox {
	t.Helper()
	in, err := inbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return in
}

// post sends a request of its own connection; id becomes the webhook-id.
func post(ctx context.Context, url, id, body string) (status int, answer string, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("webhook-id", id)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), res.Header, err
}

func TestTheReceiverRecordsAndAnswersByScript(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	in.HTTP.Set("/twice", inbox.Times(2, inbox.Reply{Status: 503, RetryAfter: "7", Body: "busy"}))
	in.HTTP.Set("/down", inbox.Always(inbox.Reply{Status: 404}))
	steps := []struct {
		path   string
		heal   bool
		status int
		answer string
		retry  string
	}{
		{"/slack", false, 200, "ok", ""},
		{"/twice", false, 503, "busy", "7"},
		{"/twice", false, 503, "busy", "7"},
		{"/twice", false, 200, "ok", ""},
		{"/down", false, 404, "ok", ""},
		{"/down", false, 404, "ok", ""},
		{"/down", true, 200, "ok", ""},
	}
	for i, s := range steps {
		if s.heal {
			in.HTTP.Heal(s.path)
		}
		status, answer, header, err := post(t.Context(), in.URL+s.path, "id"+s.path, "body")
		if err != nil || status != s.status || answer != s.answer || header.Get("Retry-After") != s.retry {
			t.Errorf("step %d, %s: %d %q %q, %v, want %d %q %q", i, s.path, status, answer, header.Get("Retry-After"), err, s.status, s.answer, s.retry)
		}
	}
	got := in.HTTP.Arrivals()
	if len(got) != len(steps) || got[1].Path != "/twice" || got[1].Body != "body" || got[1].Status != 503 || got[1].ID() != "id/twice" || got[1].Accepted() || got[1].At.IsZero() {
		t.Errorf("arrivals %+v", got)
	}
	if all, ok := in.HTTP.CountByID(nil), in.HTTP.CountByID(inbox.Arrival.Accepted); all["id/twice"] != 3 || ok["id/twice"] != 1 || ok["id/down"] != 1 {
		t.Errorf("counts %v, accepted %v", all, ok)
	}
}

func TestAnAnswerIsHeldUpUntilItIsReleased(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	in.HTTP.Set("/held", func(int) inbox.Reply {
		arrived <- struct{}{}
		return inbox.Reply{Status: 202, Wait: release}
	})
	status := make(chan int, 1)
	go func() {
		got, _, _, err := post(t.Context(), in.URL+"/held", "x", "body")
		if err != nil {
			t.Error(err)
		}
		status <- got
	}()
	<-arrived
	select {
	case got := <-status:
		t.Errorf("answered %d before it was released", got)
	default:
	}
	close(release)
	if got := <-status; got != 202 {
		t.Errorf("status %d, want 202", got)
	}
}

func TestFaultsAreRecordedAndNotAnswered(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	tests := []struct {
		fault inbox.Fault
		err   func(error) bool
	}{
		{inbox.Hang, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{inbox.Drip, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{inbox.Reset, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{inbox.Drop, func(err error) bool { return errors.Is(err, io.EOF) }},
	}
	for i, tt := range tests {
		path := "/" + string(tt.fault)
		in.HTTP.Set(path, inbox.Always(inbox.Reply{Fault: tt.fault}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if tt.fault == inbox.Hang || tt.fault == inbox.Drip {
			ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		}
		_, _, _, err := post(ctx, in.URL+path, "x", "body")
		cancel()
		if err == nil || !tt.err(err) {
			t.Errorf("%s: error %v", tt.fault, err)
		}
		got := in.HTTP.Arrivals()
		if len(got) != i+1 || got[i].Fault != tt.fault || got[i].Status != 0 || got[i].Body != "body" || got[i].Accepted() {
			t.Errorf("%s: arrivals %+v", tt.fault, got)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	in, err := inbox.Start(t.Context(), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in.HTTP.Set("/h", inbox.Always(inbox.Reply{Fault: inbox.Hang}))
	done := make(chan error, 1)
	go func() {
		_, _, _, err := post(context.WithoutCancel(t.Context()), in.URL+"/h", "x", "")
		done <- err
	}()
	await.True(t, "the request arrives", func() bool { return len(in.HTTP.Arrivals()) > 0 })
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the hanging request was answered")
	}
}

const letter = "From: a@example.com\r\nTo: b@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello\r\n"

// sendMail sends letter without TLS.
func sendMail(addr string, to ...string) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.SendMail("a@example.com", to, strings.NewReader(letter))
}

func TestTheMailServerRecordsMessages(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	if err := sendMail(in.SMTPAddr, "b@example.com", "c@example.com"); err != nil {
		t.Fatal(err)
	}
	got := in.Mail.Mails()
	if len(got) != 1 || got[0].From != "a@example.com" || strings.Join(got[0].To, " ") != "b@example.com c@example.com" ||
		got[0].Subject != "Grüße" || got[0].Data != letter || got[0].TLS || got[0].At.IsZero() {
		t.Errorf("mails %+v", got)
	}
}

func TestTheMailServerOffersSTARTTLSAndAUTH(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{Mail: inbox.MailOptions{TLS: true, User: "me", Password: "secret"}})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(in.Mail.CertPEM) {
		t.Fatal("no certificate")
	}
	send := func(password string) error {
		c, err := smtp.DialStartTLS(in.SMTPAddr, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"})
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if password != "" {
			if err := c.Auth(sasl.NewPlainClient("", "me", password)); err != nil {
				return err
			}
		}
		return c.SendMail("a@example.com", []string{"b@example.com"}, strings.NewReader(letter))
	}
	if err := send("secret"); err != nil {
		t.Errorf("with the right password: %v", err)
	}
	for password, want := range map[string]int{"wrong": 535, "": 502} {
		if got := code(send(password)); got != want {
			t.Errorf("password %q: %d, want %d", password, got, want)
		}
	}
	if got := in.Mail.Mails(); len(got) != 1 || !got[0].TLS || got[0].User != "me" {
		t.Errorf("mails %+v, want one, over TLS, by me", got)
	}
}

func code(err error) int {
	if e, ok := errors.AsType[*smtp.SMTPError](err); ok {
		return e.Code
	}
	return 0
}

func TestTheMailServerAnswersByScript(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	send := func() error {
		return sendMail(in.SMTPAddr, "b@example.com")
	}
	for stage, want := range map[inbox.Stage]int{inbox.StageFrom: 421, inbox.StageTo: 550, inbox.StageData: 451} {
		in.Mail.Set(stage, inbox.Times(1, inbox.Reply{Status: want, Body: "scripted"}))
		err := send()
		if code(err) != want || !strings.Contains(err.Error(), "scripted") {
			t.Errorf("%s: %v, want %d", stage, err, want)
		}
		if err := send(); err != nil {
			t.Errorf("%s, second time: %v", stage, err)
		}
	}
	if got := len(in.Mail.Mails()); got != 3 {
		t.Errorf("%d mails recorded, want the 3 accepted", got)
	}
	in.Mail.Set(inbox.StageData, inbox.Always(inbox.Reply{Fault: inbox.Drop}))
	if err := send(); err == nil || code(err) != 0 {
		t.Errorf("dropped after the final dot: %v, want a lost connection", err)
	}
	if got := in.Mail.Mails(); len(got) != 4 || got[3].Fault != inbox.Drop {
		t.Errorf("mails %+v, want the dropped one recorded as such", got)
	}
	in.Mail.Heal()
	if err := send(); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestTheControlPageShowsAndSteers(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	control := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, in.ControlURL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	hook := func() int {
		status, _, _, err := post(t.Context(), in.URL+"/hook", "msg-1", "a\nbody")
		if err != nil {
			t.Error(err)
		}
		return status
	}

	if status, text := control("GET", "/arrivals"); status != 200 || strings.TrimSpace(text) != `{"http":[],"mail":[]}` {
		t.Errorf("empty: %d %s", status, text)
	}
	if _, text := control("POST", "/break?path=/hook&status=503"); text != "/hook answers 503 until it is healed\n" || hook() != 503 {
		t.Errorf("break: %q", text)
	}
	if _, text := control("GET", "/"); !strings.Contains(text, "broken: /hook") || !strings.Contains(text, "msg-1") || !strings.Contains(text, "a body") {
		t.Errorf("page:\n%s", text)
	}
	if _, text := control("POST", "/heal?path=/hook"); text != "/hook succeeds again\n" || hook() != 200 {
		t.Errorf("heal: %q", text)
	}
	if _, text := control("POST", "/break?path=/hook&status=500&times=1"); text != "/hook answers 500 1 times\n" || hook() != 500 || hook() != 200 {
		t.Errorf("break once: %q", text)
	}
	if _, text := control("POST", "/break?path=smtp&status=451"); text != "smtp answers 451 until it is healed\n" {
		t.Errorf("break smtp: %q", text)
	}
	if err := sendMail(in.SMTPAddr, "b@example.com"); code(err) != 451 {
		t.Errorf("mail: %v, want 451", err)
	}
	control("POST", "/heal?path=smtp")
	if err := sendMail(in.SMTPAddr, "b@example.com"); err != nil {
		t.Errorf("mail, healed: %v", err)
	}

	_, text := control("GET", "/arrivals")
	var got struct {
		HTTP []inbox.Arrival
		Mail []inbox.Mail
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.HTTP) != 4 || got.HTTP[0].ID() != "msg-1" || len(got.Mail) != 1 {
		t.Errorf("arrivals %s, %v", text, err)
	}

	for _, bad := range []string{
		"/heal", "/break?path=hook&status=500", "/break?path=/h", "/break?path=/h&status=99", "/break?path=/h&status=x",
		"/break?path=/h&fault=melt", "/break?path=/h&status=500&times=0", "/break?path=smtp&fault=drip",
	} {
		if status, text := control("POST", bad); status != 400 {
			t.Errorf("POST %s: %d %s, want 400", bad, status, text)
		}
	}
}

func TestATakenAddressIsAnError(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	u, _ := url.Parse(in.URL)
	for _, o := range []inbox.Options{{HTTPAddr: u.Host}, {SMTPAddr: u.Host}, {ControlAddr: u.Host}} {
		if _, err := inbox.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), u.Host) {
			t.Errorf("%+v: error %v, want one that names the address", o, err)
		}
	}
}
