package apns

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"backstop/lib/sinks"
)

// Apple's limits of a payload, in bytes.
const (
	maxPayload = 4096
	maxVoIP    = 5120
)

// The names in metadata and payload that have a meaning here.
const (
	nameAPS      = "aps"
	nameData     = "data"
	nameDelivery = "delivery_id"
)

// compose returns where m goes and its payload, or why it cannot be sent.
func (s *Sink) compose(to sinks.Recipient, m sinks.Message) (Recipient, []byte, error) {
	r, ok := to.(Recipient)
	switch {
	case to == nil:
		return r, nil, invalid("recipient", `required: {"device_token": "..."}`)
	case !ok:
		return r, nil, invalid("recipient", fmt.Sprintf("a %T, want an apns.Recipient", to))
	}
	if err := r.check(); err != nil {
		return r, nil, err
	}
	payload, err := s.payload(m)
	return r, payload, err
}

// payload returns the JSON of m.
func (s *Sink) payload(m sinks.Message) ([]byte, error) {
	most := maxPayload
	if s.pushType == typeVoIP {
		most = maxVoIP
	}
	for _, f := range []struct{ name, text string }{{"message.id", m.ID}, {"message.subject", m.Subject}, {"message.body", m.Body}} {
		if !utf8.ValidString(f.text) {
			return nil, invalid(f.name, "not valid UTF-8")
		}
	}
	for key, value := range m.Metadata {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, invalid(fmt.Sprintf("message.metadata[%.40q]", key), "not valid UTF-8")
		}
	}
	out, err := own(m)
	if err != nil {
		return nil, err
	}
	aps, err := object(m, nameAPS)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 && len(aps) == 0 && m.Subject == "" && m.Body == "" {
		return nil, invalid("message.body", "empty, and there are no subject and no metadata")
	}
	texts := out
	if s.pushType == typeAlert && m.Subject+m.Body != "" {
		if _, twice := aps["alert"]; twice {
			return nil, invalid("message.metadata.aps.alert", "given twice: subject and body are the alert")
		}
		texts = map[string]any{}
		aps["alert"] = texts
	}
	for _, t := range []struct{ name, text string }{{"title", m.Subject}, {"body", m.Body}} {
		if _, twice := texts[t.name]; twice && t.text != "" {
			return nil, invalid("message.metadata."+t.name, "given twice: subject and body stand there")
		}
		if t.text != "" {
			texts[t.name] = t.text
		}
	}
	if _, given := aps["content-available"]; s.pushType == typeBackground && !given {
		aps["content-available"] = 1
	}
	out[nameAPS] = aps
	if m.ID != "" {
		out[nameDelivery] = m.ID
	}
	b, err := encode(out)
	if err == nil && len(b) > most {
		err = invalid("message.body", fmt.Sprintf("a payload of %d bytes with subject and metadata, APNs takes %d", len(b), most))
	}
	return b, err
}

// own returns the payload's names beside aps.
func own(m sinks.Message) (map[string]any, error) {
	out, err := object(m, nameData)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{nameAPS, nameDelivery} {
		if _, given := out[name]; given {
			return nil, invalid("message.metadata.data."+name, "this name has its own place")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		_, twice := out[key]
		switch {
		case key == nameAPS || key == nameData:
			continue
		case key == nameDelivery:
			return nil, invalid("message.metadata."+key, "this name has its own place")
		case key == "":
			return nil, invalid(`message.metadata[""]`, "no name")
		case twice:
			return nil, invalid(fmt.Sprintf("message.metadata[%.40q]", key), "given twice: data holds it already")
		}
		out[key] = m.Metadata[key]
	}
	return out, nil
}

// object reads the JSON object in m's metadata under key; absent: an empty one.
func object(m sinks.Message, key string) (map[string]any, error) {
	raw, ok := m.Metadata[key]
	if !ok {
		return map[string]any{}, nil
	}
	var read map[string]json.RawMessage
	if err := json.Unmarshal([]byte(raw), &read); err != nil || read == nil {
		return nil, invalid("message.metadata."+key, "not a JSON object")
	}
	out := make(map[string]any, len(read))
	for name, value := range read {
		out[name] = value
	}
	return out, nil
}

// encode returns v in JSON; names are sorted, so every attempt sends the same bytes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
