package fcm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/collapse"
)

// FCM's limits (https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, read 2026-11-27).
const (
	maxPayload      = 4096 // bytes of what a device gets, keys and values
	maxTopicPayload = 2048 // where it goes to topics
	maxTTL          = 28 * 24 * time.Hour
)

// The keys of data that have a meaning here.
const (
	keyData     = "data"
	keyDelivery = "delivery_id"
)

// request is what is posted.
type request struct {
	Message message `json:"message"`
}

type message struct {
	Recipient
	Notification *notification     `json:"notification,omitempty"`
	Data         map[string]string `json:"data,omitempty"`
	Android      *android          `json:"android,omitempty"`
	Webpush      *webpush          `json:"webpush,omitempty"`
	APNs         *apns             `json:"apns,omitempty"`
}

type notification struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

type android struct {
	TTL          string `json:"ttl,omitempty"`
	Notification *tag   `json:"notification,omitempty"`
}

type webpush struct {
	Headers      map[string]string `json:"headers,omitempty"`
	Notification *tag              `json:"notification,omitempty"`
}

type apns struct {
	Headers map[string]string `json:"headers,omitempty"`
}

// tag is the part of a notification by which another one replaces it.
type tag struct {
	Tag string `json:"tag"`
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the field. The
// limit of 4096 bytes (2048 to topics) is FCM's, and what it counts is not written down in full: what
// passes here, with title, body and data, may still be too large for it.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	_, err := s.compose(to, m)
	return err
}

// compose returns what is posted for m, without its end.
func (s *Sink) compose(to sinks.Recipient, m sinks.Message) (*message, error) {
	r, err := s.recipient(to)
	if err != nil {
		return nil, err
	}
	most := maxPayload
	if r.Token == "" {
		most = maxTopicPayload
	}
	out := &message{Recipient: r}
	if out.Data, err = data(m, most); err != nil {
		return nil, err
	}
	for field, text := range map[string]string{"message.id": m.ID, "message.subject": m.Subject, "message.body": m.Body} {
		if !utf8.ValidString(text) {
			return nil, invalid(field, "not valid UTF-8")
		}
	}
	size := len(m.Subject) + len(m.Body)
	if m.ID != "" {
		size += len(keyDelivery) + len(m.ID)
	}
	for key, value := range out.Data {
		size += len(key) + len(value)
	}
	if size > most {
		return nil, invalid("message.body", fmt.Sprintf("%d bytes with subject and data, FCM takes %d here", size, most))
	}
	shown := m.Subject != "" || m.Body != ""
	if shown {
		out.Notification = &notification{m.Subject, m.Body}
	} else if len(out.Data) == 0 {
		return nil, invalid("message.body", "empty, and there are no subject and no data")
	}
	key := collapse.Key(s.name, m.ID)
	if key != "" {
		out.Data[keyDelivery] = m.ID
		out.APNs = &apns{Headers: map[string]string{"apns-collapse-id": key}}
		out.Webpush = &webpush{Headers: map[string]string{"Topic": key}}
	}
	if key != "" && shown { // a tag makes a notification of a data message
		out.Android = &android{Notification: &tag{key}}
		out.Webpush.Notification = &tag{key}
	}
	return out, nil
}

// data returns what m itself has of data, no pair of more than most bytes.
func data(m sinks.Message, most int) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		if key == keyData {
			continue
		}
		if err := put(out, "message.metadata", key, m.Metadata[key], most); err != nil {
			return nil, err
		}
	}
	raw, ok := m.Metadata[keyData]
	if !ok {
		return out, nil
	}
	var object map[string]*string
	if err := json.Unmarshal([]byte(raw), &object); err != nil || object == nil || !utf8.ValidString(raw) {
		return nil, invalid("message.metadata.data", "not a JSON object of texts")
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if object[key] == nil {
			return nil, invalid("message.metadata.data", "not a JSON object of texts")
		}
		if err := put(out, "message.metadata.data", key, *object[key], most); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// put adds a pair to data.
func put(data map[string]string, field, key, value string, most int) error {
	_, twice := data[key]
	path := fmt.Sprintf("%s[%.40q]", field, key)
	switch {
	case !utf8.ValidString(key) || !utf8.ValidString(value):
		return invalid(path, "not valid UTF-8")
	case len(key)+len(value) > most:
		return invalid(path, fmt.Sprintf("%d bytes, FCM takes %d of all data here", len(key)+len(value), most))
	case key == keyDelivery:
		return invalid(path, "the delivery's ID stands there")
	case reserved(key):
		return invalid(path, "FCM keeps this key for itself")
	case twice:
		return invalid(path, "given twice: data holds it already")
	}
	data[key] = value
	return nil
}

// reserved reports whether FCM refuses key in data
// (https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and ErrorCode, read
// 2026-11-27).
func reserved(key string) bool {
	return key == "" || key == "from" || key == "message_type" || key == "gcm" || strings.HasPrefix(key, "gcm.") || strings.HasPrefix(key, "google")
}

// expire has each platform forget the message when it is of no use any more: at, if that is not
// zero. FCM refuses more than four weeks, its default.
func (m *message) expire(at time.Time) {
	if at.IsZero() {
		return
	}
	left := min(max(time.Until(at), 0), maxTTL)
	seconds := strconv.FormatInt(int64(left/time.Second), 10)
	if m.Android == nil {
		m.Android = &android{}
	}
	if m.Webpush == nil {
		m.Webpush = &webpush{Headers: map[string]string{}}
	}
	if m.APNs == nil {
		m.APNs = &apns{Headers: map[string]string{}}
	}
	m.Android.TTL = seconds + "s"
	m.Webpush.Headers["TTL"] = seconds
	m.APNs.Headers["apns-expiration"] = strconv.FormatInt(at.Unix(), 10)
}

// encode returns what is posted.
func (m *message) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(request{*m})
	return b.Bytes(), err
}
