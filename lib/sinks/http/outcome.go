package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	nethttp "net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/theory/jsonpath"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// rule is an outcome that is ready to be asked.
type rule struct {
	status Statuses
	header map[string]Match
	json   []pathMatch
	then   string
}

type pathMatch struct {
	at    *jsonpath.Path
	match Match
}

// verdict reads answers.
type verdict struct {
	rules     []rule
	delivered bool // a rule says what a delivery looks like

	afterHeader string
	afterJSON   *jsonpath.Path
	afterUnit   string

	id, code *jsonpath.Path
}

// reading compiles what a document says about answers.
func (d *Document) reading(f *faults) verdict {
	var v verdict
	for i, o := range d.Outcomes {
		v.rules = append(v.rules, o.rule(f, fmt.Sprintf("outcomes[%d]", i)))
		v.delivered = v.delivered || o.Then == delivered
		for j := range i {
			if v.rules[j].covers(v.rules[i]) {
				f.add(fmt.Sprintf("outcomes[%d]", i), "it can never decide: outcomes[%d] holds whenever this line does", j)
				break
			}
		}
	}
	if r := d.RetryAfter; r != nil {
		v.afterHeader, v.afterJSON, v.afterUnit = r.Header, compilePath(f, "retry_after.json", r.JSON), r.Unit
		if (r.Header == "") == (r.JSON == "") {
			f.own("retry_after", "want a header, or a JSON path")
		}
		switch r.Unit {
		case "", "s", "ms", "epoch":
		default:
			f.word("retry_after.unit", "want s, ms or epoch", r.Unit, []string{"epoch", "ms", "s"})
		}
	}
	v.id, v.code = compilePath(f, "answer.id", d.Answer.ID), compilePath(f, "answer.code", d.Answer.Code)
	return v
}

func (o Outcome) rule(f *faults, key string) rule {
	r := rule{status: o.Status, header: map[string]Match{}, then: o.Then}
	switch {
	case o.Then == "":
		f.own(key+".then", "required: "+list(meanings))
	case !slices.Contains(meanings, o.Then):
		f.word(key+".then", "want "+list(meanings), o.Then, meanings)
	}
	if o.Status != nil && len(o.Status) == 0 {
		f.own(key+".status", "an empty list holds for nothing")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		m := o.Header[name]
		for _, value := range m.values {
			if _, ok := value.(string); !ok {
				f.own(key+".header."+name, "a header is a text: put the value in quotes")
			}
		}
		r.header[nethttp.CanonicalHeaderKey(name)] = m
	}
	for _, at := range slices.Sorted(maps.Keys(o.JSON)) {
		r.json = append(r.json, pathMatch{compilePath(f, key+".json", at), o.JSON[at]})
	}
	return r
}

// compilePath compiles a path; nil for an empty one, and for a faulty one.
func compilePath(f *faults, key, path string) *jsonpath.Path {
	if path == "" {
		return nil
	}
	p, err := jsonpath.Parse(path)
	if err != nil {
		f.quoting(key, fmt.Sprintf("%.80q", path), " is not a JSON path (RFC 9535), such as $.error.code")
		return nil
	}
	return p
}

// covers reports whether r holds whenever other does, as far as that shows without an answer.
func (r rule) covers(other rule) bool {
	if r.status != nil && other.status == nil {
		return false
	}
	for _, s := range other.status {
		if r.status != nil && !slices.ContainsFunc(r.status, func(all statuses) bool { return all.first <= s.first && s.last <= all.last }) {
			return false
		}
	}
	for name, m := range r.header {
		if o, ok := other.header[name]; !ok || !m.covers(o) {
			return false
		}
	}
	for _, p := range r.json {
		if p.at == nil || !slices.ContainsFunc(other.json, func(o pathMatch) bool {
			return o.at != nil && o.at.String() == p.at.String() && p.match.covers(o.match)
		}) {
			return false
		}
	}
	return true
}

func (m Match) covers(other Match) bool {
	if m.present {
		return true
	}
	return !other.present && !slices.ContainsFunc(other.values, func(v any) bool { return !m.holds(v) })
}

// holds reports whether a value is what it must be.
func (m Match) holds(v any) bool {
	return m.present || slices.ContainsFunc(m.values, func(want any) bool { return equal(want, v) })
}

// equal compares two JSON scalars, types included.
func equal(a, b any) bool {
	x, isNumber := a.(json.Number)
	y, bothNumbers := b.(json.Number)
	if !isNumber || !bothNumbers {
		return isScalar(b) && a == b
	}
	if x == y {
		return true
	}
	i, err := x.Float64()
	j, err2 := y.Float64()
	return err == nil && err2 == nil && i == j
}

func isScalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// answer is one answer as the rules see it.
type answer struct {
	*httpsend.Response
	tree any
	json bool
}

func read(r *httpsend.Response) answer {
	a := answer{Response: r}
	if !r.Whole {
		return a
	}
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.UseNumber()
	if d.Decode(&a.tree) != nil {
		return a
	}
	_, err := d.Token()
	a.json = errors.Is(err, io.EOF)
	return a
}

// at returns the values at a path.
func (a answer) at(p *jsonpath.Path) []any {
	if p == nil || !a.json {
		return nil
	}
	return p.Select(a.tree)
}

func (r rule) holds(a answer) bool {
	if r.status != nil && !slices.ContainsFunc(r.status, func(s statuses) bool { return s.first <= a.Status && a.Status <= s.last }) {
		return false
	}
	for name, m := range r.header {
		if !slices.ContainsFunc(a.Header[name], func(v string) bool { return m.holds(v) }) {
			return false
		}
	}
	for _, p := range r.json {
		if !slices.ContainsFunc(a.at(p.at), p.match.holds) {
			return false
		}
	}
	return true
}

// meaning decides what an answer means. decided is false where no rule did.
func (v verdict) meaning(a answer) (meaning string, decided bool) {
	for _, r := range v.rules {
		if r.holds(a) {
			return r.then, true
		}
	}
	switch {
	case a.Status >= 200 && a.Status <= 299 && v.delivered:
		return ambiguous, false
	case a.Status >= 200 && a.Status <= 299:
		return delivered, false
	case a.Passing():
		return transient, false
	}
	return terminal, false
}

// err returns the error of an answer, nil for a delivery.
func (v verdict) err(label string, a answer) error {
	code := shown(a.at(v.code))
	switch meaning, decided := v.meaning(a); meaning {
	case delivered:
		return nil
	case gone:
		return sinks.Gone(a.Unavailable(label, code))
	case terminal:
		return sinks.Terminal(a.Unavailable(label, code))
	case transient:
		wait, asked := v.wait(a)
		return a.Later(label, code, wait, asked)
	default:
		err := a.Unavailable(label, code)
		switch {
		case decided:
			err.Msg += "; it may have been taken"
		case !a.Whole:
			err.Msg += ", but the answer broke off"
		default:
			err.Msg += ", but the answer does not say that it was taken"
		}
		return sinks.Ambiguous(err)
	}
}

// wait returns how long the receiver asked to wait, in all the places where it may.
func (v verdict) wait(a answer) (wait time.Duration, asked bool) {
	now := time.Now()
	wait, asked = httpsend.RetryAfter(a.Header, now)
	var hints []string
	if v.afterHeader != "" {
		hints = a.Header.Values(v.afterHeader)
	}
	for _, value := range a.at(v.afterJSON) {
		switch value := value.(type) {
		case json.Number:
			hints = append(hints, value.String())
		case string:
			hints = append(hints, value)
		}
	}
	for _, hint := range hints {
		n, err := strconv.ParseFloat(hint, 64)
		if err != nil || math.IsNaN(n) {
			continue
		}
		switch v.afterUnit {
		case "ms":
			n /= 1000
		case "epoch":
			n -= float64(now.UnixMilli()) / 1000
		}
		ms := min(max(math.Ceil(n*1000), 0), float64(sinks.MaxRetryAfter.Milliseconds()))
		wait, asked = max(wait, time.Duration(ms)*time.Millisecond), true
	}
	return wait, asked
}

var showable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`) })

// shown returns the first of the values that may be shown.
func shown(values []any) string {
	for _, v := range values {
		text, isText := v.(string)
		if n, ok := v.(json.Number); ok {
			text, isText = n.String(), true
		}
		text = text[strings.LastIndexByte(text, '#')+1:] // in front stands a namespace, as AWS writes it
		if isText && showable().MatchString(text) {
			return text
		}
	}
	return ""
}
