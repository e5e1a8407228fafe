package client_test

import (
	"strings"
	"testing"

	"backstop/client"
)

// What says that something is safe must be about what was asked for: another server that
// answers everybody with JSON, as a proxy or a wrong URL may, keeps no message.
func TestAnAnswerAboutSomethingElseAcknowledgesNothing(t *testing.T) {
	const line = `{"sink":"mail"}` + "\n"
	for name, tt := range map[string]struct {
		call func(*client.Client) error
		no   []string
		yes  string
	}{
		"send": {
			func(c *client.Client) error {
				_, err := c.Send(t.Context(), client.SendRequest{ID: "m1", Sink: "mail"})
				return err
			},
			[]string{`{}`, `{"ok":true}`, `{"status":"ok"}`, `{"status":"delivered"}`, `{"status":"delivered","delivery_id":"m2"}`, `{"delivery_id":"m1"}`},
			`{"status":"delivered","delivery_id":"m1"}`,
		},
		"cancel": {
			func(c *client.Client) error { _, err := c.Cancel(t.Context(), "mail", "m1"); return err },
			[]string{`{}`, `{"status":"canceled"}`, `{"status":"canceled","delivery_id":"m2"}`, `{"status":"delivered","delivery_id":"m1"}`},
			`{"status":"canceled","delivery_id":"m1","known":true,"attempts":0}`,
		},
		"import": {
			func(c *client.Client) error {
				_, err := c.Import(t.Context(), []byte(line+"\n"+line))
				return err
			},
			[]string{`{}`, `{"stored":2}`, `{"stored":1,"results":[{"line":1,"status":"stored"}]}`, `{"results":[{"line":1},{"line":3}]}`},
			`{"stored":1,"failed":1,"results":[{"line":1,"status":"stored"},{"line":3,"status":"failed"}]}`,
		},
		"create operation": {
			func(c *client.Client) error {
				_, err := c.CreateOperation(t.Context(), "key", client.OperationRequest{Action: client.ActionReplay, All: true})
				return err
			},
			[]string{`{}`, `{"id":"op-1"}`, `{"status":"queued"}`},
			`{"id":"op-1","status":"queued"}`,
		},
		"cancel operation": {
			func(c *client.Client) error {
				_, err := c.CancelOperation(t.Context(), "op-1")
				return err
			},
			[]string{`{}`, `{"id":"op-2","status":"canceled"}`},
			`{"id":"op-1","status":"canceled"}`,
		},
		"resume operation": {
			func(c *client.Client) error {
				_, err := c.ResumeOperation(t.Context(), "op-1")
				return err
			},
			[]string{`{}`, `{"id":"op-2","status":"queued"}`},
			`{"id":"op-1","status":"queued"}`,
		},
		"pause": {
			func(c *client.Client) error { _, err := c.PauseSink(t.Context(), "mail"); return err },
			[]string{`{}`, `{"name":"sms"}`},
			`{"name":"mail","paused":true}`,
		},
		"replay": {
			func(c *client.Client) error { _, err := c.Replay(t.Context(), "mail~1-0", nil); return err },
			[]string{`{}`, `{"id":"mail~1-0"}`, `{"id":"mail~2-0","status":"delivered"}`},
			`{"id":"mail~1-0","status":"delivered"}`,
		},
		"unpark, by its native id": {
			func(c *client.Client) error { _, err := c.Unpark(t.Context(), "1-0", nil); return err },
			[]string{`{}`, `{"id":"mail~2-0"}`},
			`{"id":"mail~1-0"}`,
		},
		"discard": {
			func(c *client.Client) error { return c.Discard(t.Context(), "mail~1-0", nil) },
			[]string{`{}`, `{"ok":true}`},
			``,
		},
	} {
		for _, body := range tt.no {
			c, _ := answering(t, "http://h", 200, "application/json", body)
			if err := tt.call(c); err == nil || client.Repeatable(err) || !strings.Contains(err.Error(), "not Backstop's API") {
				t.Errorf("%s, answered %s: %v, want an error that says whose answer it is not", name, body, err)
			}
		}
		c, _ := answering(t, "http://h", 200, "application/json", tt.yes)
		if err := tt.call(c); err != nil {
			t.Errorf("%s, answered %s: %v", name, tt.yes, err)
		}
	}
}
