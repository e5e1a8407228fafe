package inbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Control shows and steers the inbox over HTTP:
//
//	GET  /                     a plain text page of what arrived
//	GET  /arrivals             the same as JSON: {"http":[...],"mail":[...]}
//	POST /heal?path=/hook      requests to the path succeed again
//	POST /break?path=/hook&status=503&retry_after=5&times=3
//	POST /break?path=/hook&fault=hang|reset|drop|drip
//
// Without times, a path stays broken until it is healed. The path "smtp" stands for
// the mail server's answer to a message.
func (in *Inbox) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", in.page)
	mux.HandleFunc("GET /arrivals", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"http": nonNil(in.HTTP.Arrivals()), "mail": nonNil(in.Mail.Mails())})
	})
	mux.HandleFunc("POST /heal", in.heal)
	mux.HandleFunc("POST /break", in.breakPath)
	return mux
}

const smtpPath = "smtp"

func (in *Inbox) heal(w http.ResponseWriter, r *http.Request) {
	path := r.FormValue("path")
	switch {
	case path == smtpPath:
		in.Mail.Heal()
	case strings.HasPrefix(path, "/"):
		in.HTTP.Heal(path)
	default:
		http.Error(w, `path is missing: POST /heal?path=/hook, or path=smtp`, http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%s succeeds again\n", path)
}

func (in *Inbox) breakPath(w http.ResponseWriter, r *http.Request) {
	reply, times, err := parseBreak(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	script, until := Always(reply), "until it is healed"
	if times > 0 {
		script, until = Times(times, reply), fmt.Sprintf("%d times", times)
	}
	path := r.FormValue("path")
	if path == smtpPath {
		in.Mail.Set(StageData, script)
	} else {
		in.HTTP.Set(path, script)
	}
	_, _ = fmt.Fprintf(w, "%s answers %s %s\n", path, outcome(reply.Status, reply.Fault), until)
}

func parseBreak(r *http.Request) (reply Reply, times int, err error) {
	path := r.FormValue("path")
	if path != smtpPath && !strings.HasPrefix(path, "/") {
		return Reply{}, 0, fmt.Errorf("path %q is neither a path nor smtp", path)
	}
	reply = Reply{RetryAfter: r.FormValue("retry_after"), Fault: Fault(r.FormValue("fault")), Body: "broken on request"}
	if reply.Fault != "" && !slices.Contains([]Fault{Hang, Reset, Drop, Drip}, reply.Fault) {
		return Reply{}, 0, fmt.Errorf("fault %q is not hang, reset, drop or drip", reply.Fault)
	}
	if path == smtpPath && reply.Fault == Drip {
		return Reply{}, 0, errors.New("a mail server does not drip")
	}
	if reply.Fault == "" {
		reply.Status, err = strconv.Atoi(r.FormValue("status"))
		if err != nil || reply.Status < 200 || reply.Status > 599 {
			return Reply{}, 0, fmt.Errorf("status %q is not between 200 and 599 (or give a fault)", r.FormValue("status"))
		}
	}
	if t := r.FormValue("times"); t != "" {
		if times, err = strconv.Atoi(t); err != nil || times < 1 {
			return Reply{}, 0, fmt.Errorf("times %q is not a positive number", t)
		}
	}
	return reply, times, nil
}

// page shows the newest arrivals first, without header values: they hold signatures.
func (in *Inbox) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	arrivals, mails := in.HTTP.Arrivals(), in.Mail.Mails()
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	defer func() { _ = t.Flush() }()
	_, _ = fmt.Fprintf(t, "HTTP on %s: %d arrived\n", in.URL, len(arrivals))
	if broken := in.HTTP.Broken(); len(broken) > 0 {
		_, _ = fmt.Fprintf(t, "broken: %s\n", strings.Join(broken, ", "))
	}
	_, _ = fmt.Fprintf(t, "\nTIME\tPATH\tANSWER\tWEBHOOK-ID\tBODY\n")
	for _, a := range slices.Backward(arrivals) {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", a.At.Format("15:04:05.000"), a.Path, outcome(a.Status, a.Fault), a.ID(), preview(a.Body))
	}
	_, _ = fmt.Fprintf(t, "\nSMTP on %s: %d arrived\n\nTIME\tTO\tSUBJECT\n", in.SMTPAddr, len(mails))
	for _, m := range slices.Backward(mails) {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", m.At.Format("15:04:05.000"), strings.Join(m.To, ", "), preview(m.Subject))
	}
}

func outcome(status int, f Fault) string {
	if f != "" {
		return string(f)
	}
	return strconv.Itoa(status)
}

// preview is one line of at most 60 characters.
func preview(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return s
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
