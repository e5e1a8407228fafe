package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"backstop/internal/strictjson"
	"backstop/lib/fault"
)

// encode returns v as JSON without HTML escaping, which would double the size of HTML
// bodies.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answerJSON(w, status, b)
}

// answerJSON writes an encoded answer. One that the platform cannot carry is
// BODY_TOO_LARGE.
func answerJSON(w http.ResponseWriter, status int, b []byte) error {
	if len(b) > maxAnswer {
		return &fault.Error{
			Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("the answer would have %d bytes; at most %d can be sent", len(b), maxAnswer),
		}
	}
	contentType := typeJSON
	if len(b) > maxText {
		contentType = typeLargeJSON
	}
	write(w, status, contentType, b)
	return nil
}

func write(w http.ResponseWriter, status int, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if _, err := w.Write(b); err != nil { //nolint:gosec // never HTML, and nosniff is set
		slog.Debug("answer not written", "error", err.Error())
	}
}

// decode reads a request's JSON body strictly. An empty body leaves into as it is.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	b, err := readBody(w, r, maxRequest)
	if err != nil || strictjson.Empty(b) {
		return err
	}
	if err := strictjson.Decode(b, into); err != nil {
		return invalid("%s", strictjson.Text("request body", err))
	}
	return nil
}

// readBody reads a request's body of so many bytes at most.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		return b, nil
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("request body: at most %d bytes", tooLarge.Limit)}
	}
	return nil, invalid("request body: %s", err) // it is not the base64 that the event says
}
