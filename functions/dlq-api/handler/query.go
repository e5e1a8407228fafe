package handler

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// query reads a request's query parameters. Unknown and repeated ones are refused: a
// filter that is silently ignored would discard too much.
type query struct {
	values map[string]string
	meta   map[string]string // of the parameter meta, which can be repeated
	err    error
}

func readQuery(r *http.Request, known ...string) *query {
	q := &query{values: map[string]string{}}
	for name, values := range r.URL.Query() {
		switch {
		case !slices.Contains(known, name):
			q.fail(invalid("query parameter %.40q is not known here; known: %s", name, strings.Join(known, ", ")))
		case name == "meta":
			q.readMeta(values)
		case len(values) > 1:
			q.fail(invalid("query parameter %s: given %d times", name, len(values)))
		default:
			q.values[name] = values[0]
		}
	}
	return q
}

// maxMeta is the most names of metadata that are looked for at once.
const maxMeta = 16

// readMeta reads name=value, any number of times.
func (q *query) readMeta(values []string) {
	q.meta = map[string]string{}
	for _, v := range values {
		name, value, ok := strings.Cut(v, "=")
		if _, twice := q.meta[name]; twice || !ok {
			q.fail(invalid("meta: %.80q; want <name>=<value>, each name once", v))
		}
		q.meta[name] = value
	}
	if err := checkMeta("meta", q.meta); err != nil {
		q.fail(err)
	}
}

// checkMeta refuses what no metadata has, or what is too much to look for.
func checkMeta(field string, meta map[string]string) error {
	if len(meta) > maxMeta {
		return invalid("%s: %d names; at most %d are looked for", field, len(meta), maxMeta)
	}
	for name, value := range meta {
		if name == "" {
			return invalid("%s: a name is missing", field)
		}
		if n := utf8.RuneCountInString(name) + utf8.RuneCountInString(value); n > maxFilter {
			return invalid("%s: %d characters; at most %d are looked for", field, n, maxFilter)
		}
	}
	return nil
}

func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *query) text(name string) string { return q.values[name] }

func (q *query) sink() string {
	name := q.values["sink"]
	if name != "" {
		if err := fault.CheckName(name); err != nil {
			q.fail(err)
		}
	}
	return name
}

func (q *query) reason() dlq.Reason {
	reason := dlq.Reason(q.values["reason"])
	if reason != "" && !slices.Contains(dlq.Reasons, reason) {
		q.fail(invalid("reason: %.40q is none of %v", reason, dlq.Reasons))
	}
	return reason
}

func (q *query) state() dlq.State {
	state := dlq.State(q.values["state"])
	if state != "" && !slices.Contains(dlq.States, state) {
		q.fail(invalid("state: %.40q is none of %v", state, dlq.States))
	}
	return state
}

func (q *query) time(name string) time.Time {
	v := q.values[name]
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		q.fail(invalid("%s: %.40q is not a time such as 2026-01-31T23:59:00Z", name, v))
	}
	return t
}

// maxPage is the most items of a page, defaultPage what it has unasked.
const (
	maxPage     = 1000
	defaultPage = 50
)

func (q *query) limit(unset, most int) int {
	v := q.values["limit"]
	if v == "" {
		return unset
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		q.fail(invalid("limit: %.20q; want 1 to %d", v, most))
	}
	return n
}

// search returns a text to look for.
func (q *query) search(name string) string {
	v := q.values[name]
	if n := utf8.RuneCountInString(v); n > maxFilter {
		q.fail(invalid("%s: %d characters; at most %d are looked for", name, n, maxFilter))
	}
	return v
}
