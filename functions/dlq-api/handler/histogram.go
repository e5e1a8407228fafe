package handler

import (
	"net/http"
	"time"

	"backstop/lib/dlq"
)

// maxSeries is the most series of a histogram; the others are summed up in one.
const maxSeries = 50

// histogramView is a histogram as the operator sees it.
type histogramView struct {
	By       dlq.HistogramBy `json:"by"`
	Interval string          `json:"interval"`
	Since    time.Time       `json:"since"`
	Until    time.Time       `json:"until"`
	Buckets  []time.Time     `json:"buckets"`
	Series   []*seriesView   `json:"series"`
	totals
}

// totals are numbers over all buckets, and when the first and the newest was seen.
type totals struct {
	Count        int64     `json:"count"`
	ArrivedTotal int64     `json:"arrived_total"`
	FirstSeen    time.Time `json:"first_seen,omitzero"`
	LastSeen     time.Time `json:"last_seen,omitzero"`
}

func (t *totals) add(o totals) {
	t.Count += o.Count
	t.ArrivedTotal += o.ArrivedTotal
	if !o.FirstSeen.IsZero() && (t.FirstSeen.IsZero() || o.FirstSeen.Before(t.FirstSeen)) {
		t.FirstSeen = o.FirstSeen
	}
	if o.LastSeen.After(t.LastSeen) {
		t.LastSeen = o.LastSeen
	}
}

// seriesView is a sink, a group or a reason, or all others together.
type seriesView struct {
	ID          string     `json:"id,omitempty"`
	Sink        string     `json:"sink,omitempty"`
	Reason      dlq.Reason `json:"reason,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Other       bool       `json:"other,omitempty"`
	Counts      []int64    `json:"counts"`
	Arrived     []int64    `json:"arrived"`
	totals
}

// add sums a row up.
func (v *seriesView) add(r dlq.HistogramRow) {
	t := totals{FirstSeen: r.FirstSeen, LastSeen: r.LastSeen}
	for i := range r.Count {
		v.Counts[i] += r.Count[i]
		v.Arrived[i] += r.Arrived[i]
		t.Count += r.Count[i]
		t.ArrivedTotal += r.Arrived[i]
	}
	v.totals.add(t)
}

// histogram answers when dead letters came, from counters: nothing is scanned.
func (h *api) histogram(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "by", "interval", "since", "until", "sink", "reason", "group", "fingerprint")
	ask := dlq.HistogramQuery{
		By: dlq.HistogramBy(q.text("by")), Sink: q.sink(), Reason: q.reason(), Fingerprint: q.search("fingerprint"),
		Since: q.time("since"), Until: q.time("until"),
	}
	if s := q.text("interval"); s != "" {
		var err error
		if ask.Interval, err = dlq.ParseInterval(s); err != nil {
			q.fail(err)
		}
	}
	if q.err != nil {
		return q.err
	}
	if err := h.group(r.Context(), q.text("group"), &ask.Sink, &ask.Reason, &ask.Fingerprint); err != nil {
		return err
	}
	found, err := h.queue.Histogram(r.Context(), ask)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, viewHistogram(ask.By, found))
}

func viewHistogram(by dlq.HistogramBy, found dlq.Histogram) histogramView {
	if by == "" {
		by = dlq.BySink
	}
	v := histogramView{
		By: by, Interval: dlq.IntervalName(found.Interval), Since: found.Since, Until: found.Until,
		Buckets: found.Buckets, Series: []*seriesView{},
	}
	for i, row := range found.Rows {
		if i <= maxSeries {
			v.Series = append(v.Series, &seriesView{Counts: make([]int64, len(found.Buckets)), Arrived: make([]int64, len(found.Buckets))})
		}
		s := v.Series[len(v.Series)-1]
		switch {
		case i >= maxSeries && len(found.Rows) > maxSeries+1:
			s.Other = true
		case by == dlq.ByGroup:
			s.ID = dlq.Group{Sink: row.Sink, Reason: row.Reason, Fingerprint: row.Fingerprint}.ID()
			fallthrough
		default:
			s.Sink, s.Reason, s.Fingerprint = row.Sink, row.Reason, row.Fingerprint
		}
		s.add(row)
	}
	for _, s := range v.Series {
		v.add(s.totals)
	}
	return v
}
