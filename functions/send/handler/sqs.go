package handler

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"backstop/internal/app"
	"backstop/internal/queuemessage"
	"backstop/internal/strictjson"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"github.com/aws/aws-lambda-go/events"
)

// sqs handles a batch. Records run at once, each on its own, as many in all and at one
// receiver as the Batch lets go; on a FIFO queue the records of a message group follow each
// other. The answer names exactly the records that are not known to be safe: the queue keeps
// those.
func (h *handler) sqs(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.SQSEvent
	if err := strictjson.DecodePart(payload, &e); err != nil {
		return nil, app.FunctionError(invalid("%s", strictjson.Text("event", err)))
	}
	for i, rec := range e.Records {
		if rec.MessageId == "" {
			// An empty identifier cannot be named in the answer, so the whole batch is kept.
			return nil, app.FunctionError(invalid("event: Records[%d].messageId: missing", i))
		}
	}
	budget := retry.NewBudget(ctx, h.app.Env.Reserve)
	records := distinct(e.Records)

	safe := make([]bool, len(records))
	batch := delivery.NewBatch(h.app.Env.Concurrency)
	for _, group := range groups(records) {
		batch.Go(func(turn *delivery.Turn) {
			for n, i := range group {
				place := delivery.Request{Turn: turn, Budget: budget, Followers: len(group) - n - 1}
				if safe[i] = h.record(ctx, place, records[i]); !safe[i] {
					// The order of the group would be lost if a later record went first.
					for _, rest := range group[n+1:] {
						h.skip(ctx, records[rest])
					}
					return
				}
			}
		})
	}
	batch.Wait()

	resp := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	reported := map[string]bool{}
	for i, rec := range records {
		if !safe[i] && !reported[rec.MessageId] {
			reported[rec.MessageId] = true
			resp.BatchItemFailures = append(resp.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: rec.MessageId})
		}
	}
	return json.Marshal(resp)
}

// distinct returns the records without those that came twice: a queue may hand a message
// out again while the first receive of it is in the same batch.
func distinct(records []events.SQSMessage) []events.SQSMessage {
	type message struct{ id, body string }
	seen := map[message]bool{}
	var all []events.SQSMessage
	for _, rec := range records {
		if m := (message{rec.MessageId, rec.Body}); !seen[m] {
			seen[m] = true
			all = append(all, rec)
		}
	}
	return all
}

// group is the FIFO message group of a record; empty: none. Message groups of a standard
// queue only spread load.
func group(rec events.SQSMessage) string {
	if !strings.HasSuffix(rec.EventSourceARN, ".fifo") {
		return ""
	}
	return rec.Attributes["MessageGroupId"]
}

// comesAgain reports whether the queue hands a record out again, in the order of its
// group, if it is handed back. Where nobody counts, this receive is taken for the last.
func comesAgain(rec events.SQSMessage, most int) bool {
	n, err := strconv.Atoi(rec.Attributes["ApproximateReceiveCount"])
	return err == nil && n < most && group(rec) != ""
}

// groups returns the indexes of records that must follow each other: those of a FIFO
// message group.
func groups(records []events.SQSMessage) [][]int {
	var all [][]int
	byGroup := map[string]int{}
	for i, rec := range records {
		id := group(rec)
		if id == "" {
			all = append(all, []int{i})
			continue
		}
		at, ok := byGroup[id]
		if !ok {
			at = len(all)
			byGroup[id] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], i)
	}
	return all
}

// record delivers one record, which has its place in the batch, and reports whether it is safe.
func (h *handler) record(ctx context.Context, place delivery.Request, rec events.SQSMessage) bool {
	r, err := parseRequest([]byte(rec.Body))
	if err == nil {
		err = identify(&r, rec.MessageId)
	} else if wrapped := envelope(rec.Body); wrapped != nil {
		err = wrapped
	}
	if err == nil {
		err = age(&r, rec)
	}
	if err != nil {
		h.refuse(ctx, rec, err)
		return false
	}
	headers := map[string]string{"x-amzn-trace-id": rec.Attributes["AWSTraceHeader"]}
	if a := rec.MessageAttributes["traceparent"]; a.StringValue != nil { // where tracing libraries put it
		headers["traceparent"] = *a.StringValue
	}
	r.Turn, r.Budget, r.Followers = place.Turn, place.Budget, place.Followers
	r.Trace = traceFrom(ctx, headers)
	if g := rec.Attributes["MessageGroupId"]; r.Group == "" && g != r.Sink { // the sink's own names none
		r.Group = g
	}
	r.KeepUnsendable, r.ComesAgain = true, comesAgain(rec, h.app.Env.QueueReceives)
	_, err = h.deliver(ctx, r)
	return err == nil
}

// age tells r when its message was accepted, which the queue's own clock does not know of one that
// this function put there, or that was moved here from another queue.
func age(r *delivery.Request, rec events.SQSMessage) (err error) {
	at := func(name string) (t time.Time) {
		a, ok := rec.MessageAttributes[name]
		if !ok || a.StringValue == nil || err != nil {
			return t
		}
		if t, err = time.Parse(time.RFC3339, *a.StringValue); err != nil {
			err = invalid("message attribute %s: %.40q; want a time as in RFC 3339", name, *a.StringValue)
		}
		return t
	}
	accepted, notBefore, sent := at(queuemessage.AcceptedAt), at(queuemessage.NotBefore), at(queuemessage.SentAt)
	if err != nil {
		return err
	}
	if ms, err := strconv.ParseInt(rec.Attributes["SentTimestamp"], 10, 64); sent.IsZero() && err == nil {
		sent = time.UnixMilli(ms)
	}
	if r.AcceptedAt = sent; !accepted.IsZero() {
		r.Queued, r.AcceptedAt, r.NotBefore, r.SendAfter = true, accepted, notBefore, 0
	}
	return nil
}

// skip hands a record back that may not overtake an earlier one of its group.
func (h *handler) skip(ctx context.Context, rec events.SQSMessage) {
	h.refuse(ctx, rec, &fault.Error{Code: fault.CodeNotAttempted, Msg: "an earlier record of its message group was handed back"})
}

// refuse notes a record that is handed back without a delivery.
func (h *handler) refuse(ctx context.Context, rec events.SQSMessage, err error) {
	h.observe(ctx, delivery.Request{ID: rec.MessageId}, delivery.Answer{}, err, 0)
}
