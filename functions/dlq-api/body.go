package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"backstop/lib/sinks"
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
		return &sinks.Error{
			Code: sinks.CodeBodyTooLarge, Msg: fmt.Sprintf("the answer would have %d bytes; at most %d can be sent", len(b), maxAnswer),
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
	err := decodeJSON(http.MaxBytesReader(w, r.Body, maxRequest), into)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return bodyError("request body", err)
}

// decodeJSON reads exactly one JSON value, without unknown members. io.EOF: there is
// none.
func decodeJSON(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows after the JSON object")
	}
	return nil
}

// bodyError says what is wrong with a body, or a part of it called what.
func bodyError(what string, err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &sinks.Error{Code: sinks.CodeBodyTooLarge, Msg: fmt.Sprintf("request body: at most %d bytes", tooLarge.Limit)}
	}
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
		return invalid("%s: want %s, got %s", te.Field, te.Type, te.Value)
	}
	return invalid("%s: %s", what, strings.TrimPrefix(err.Error(), "json: "))
}
