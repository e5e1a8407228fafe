// Package problem turns coded errors into RFC 9457 problem details with a stable code.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"backstop/lib/fault"
)

// ContentType is the media type of a problem (RFC 9457, section 3).
const ContentType = "application/problem+json"

// Problem is an RFC 9457 problem. Code is the member that clients branch on.
type Problem struct {
	// Type is a URN made from the code; it identifies, it does not resolve.
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail,omitempty"`
	Code   fault.Code `json:"code"`
	// DeliveryID is the delivery that the problem is about; empty when there is none.
	DeliveryID string `json:"delivery_id,omitempty"`

	// RetryAfter is sent as the Retry-After header; zero means none.
	RetryAfter time.Duration `json:"-"`
}

// kinds gives each code its status, title and the wait to suggest.
var kinds = map[fault.Code]struct {
	status     int
	title      string
	retryAfter time.Duration
}{
	fault.CodeSinkUnavailable:    {http.StatusServiceUnavailable, "The destination did not take the message", 5 * time.Second},
	fault.CodeSinkConfigInvalid:  {http.StatusServiceUnavailable, "The configuration is missing or wrong", 30 * time.Second},
	fault.CodeSinkNotFound:       {http.StatusNotFound, "No such sink", 0},
	fault.CodeDLQOverflow:        {http.StatusServiceUnavailable, "The dead-letter queue is full", time.Minute},
	fault.CodeDLQUnavailable:     {http.StatusServiceUnavailable, "The dead-letter queue cannot be reached", 5 * time.Second},
	fault.CodeDLQNotFound:        {http.StatusNotFound, "No such dead letter", 0},
	fault.CodeDeadLettered:       {http.StatusConflict, "The message was dead-lettered again", 0},
	fault.CodeItemLeased:         {http.StatusConflict, "A replay holds the dead letter", 5 * time.Second},
	fault.CodeDeliveryInProgress: {http.StatusConflict, "The same delivery is under way", 5 * time.Second},
	fault.CodeAlreadyDelivered:   {http.StatusConflict, "It was delivered already", 0},
	fault.CodePreviewStale:       {http.StatusConflict, "It is not what was seen any more", 0},
	fault.CodeIDReused:           {http.StatusUnprocessableEntity, "The delivery id was used for other content", 0},
	fault.CodeNotAttempted:       {http.StatusServiceUnavailable, "No time was left for an attempt", time.Second},
	fault.CodeQueueUnavailable:   {http.StatusServiceUnavailable, "The queue did not take the message", 5 * time.Second},
	fault.CodeBodyTooLarge:       {http.StatusRequestEntityTooLarge, "The message is too large", 0},
	fault.CodeInvalidArgument:    {http.StatusBadRequest, "The request is wrong", 0},
	fault.CodeInternal:           {http.StatusInternalServerError, "Internal error", 0},
}

// From returns the problem for an error. An error without a known code is INTERNAL. The
// text of an INTERNAL one, which may be anything, is left out.
func From(err error) Problem {
	code := fault.CodeOf(err)
	kind, ok := kinds[code]
	if !ok || code == fault.CodeInternal {
		code, kind = fault.CodeInternal, kinds[fault.CodeInternal]
		err = nil
	}
	p := Problem{Type: "urn:backstop:problem:" + string(code), Title: kind.title, Status: kind.status, Code: code, RetryAfter: kind.retryAfter}
	if err != nil {
		p.Detail = detail(err)
	}
	return p
}

// detail is the error's text without the code in front of it, which has a member of
// its own.
func detail(err error) string {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Error() != err.Error() {
		return err.Error()
	}
	return (&fault.Error{Msg: e.Msg, Cause: e.Cause}).Error()
}

// Header returns the problem's header fields.
func (p Problem) Header() map[string]string {
	h := map[string]string{"Content-Type": ContentType, "Cache-Control": "no-store"}
	if p.RetryAfter > 0 {
		h["Retry-After"] = strconv.Itoa(int(p.RetryAfter / time.Second))
	}
	return h
}

// Write answers an HTTP request with the problem.
func (p Problem) Write(w http.ResponseWriter) {
	for k, v := range p.Header() {
		w.Header().Set(k, v)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the reader may be gone; nobody is left to tell
}
