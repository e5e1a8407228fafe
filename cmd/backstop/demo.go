package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/spf13/cobra"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

func newDemo() *cobra.Command {
	var eventsDir string
	var logs bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play one story on this machine and exit",
		Long: `Demo runs the real functions on this machine and plays one story: deliveries over each entry
point and to each kind of sink, a sink that recovers, one that is down, one that is gone
and one that hangs; what the dead-letter queue holds; the sink healed; the scheduled
replay; the rest discarded. Its last line is the accounting. The exit code is 1 when a
message is unaccounted for or has another fate than expected.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&eventsDir, "events", "events", "folder with the sample events")
	c.Flags().BoolVar(&logs, "logs", false, "print what the functions log to standard error")
	bin := addBin(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkBin(*bin); err != nil {
			return err
		}
		// The hanging sink is given up on before the function's deadline: a short one.
		o := local.Options{Bin: *bin, Timeout: 4 * time.Second}
		if logs {
			o.Output = func(f, line string) { _ = printLog(c.ErrOrStderr(), f, line) }
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		stack, err := local.Start(ctx, o)
		if err != nil {
			return err
		}
		defer func() { _ = stack.Close() }()
		d := &demo{stack: stack, events: eventsDir, w: c.OutOrStdout()}
		return d.play(ctx)
	}
	return c
}

// fate is what became of one delivery.
type fate struct {
	via, what, sink, id string
	status              string // delivered, dead_lettered, handed_back
	detail              string
	want                string
}

// demo is one run of the story.
type demo struct {
	stack  *local.Stack
	events string
	w      io.Writer

	fates               []fate
	replayed, discarded int
	remaining           int
	wrong               []string
}

func (d *demo) play(ctx context.Context) error {
	for _, chapter := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"1. Deliveries over each entry point, to each kind of sink", d.deliver},
		{"2. What the dead-letter queue holds", d.list},
		{"3. webhook-down is healed, and the schedule replays", d.replay},
		{"4. The operator discards the rest", d.discard},
		{"5. What arrived", d.arrived},
	} {
		if err := d.printf("\n%s\n\n", chapter.title); err != nil {
			return err
		}
		if err := chapter.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return d.account()
}

// deliver sends over each entry point.
func (d *demo) deliver(ctx context.Context) error {
	for _, send := range []struct{ file, what, want string }{
		{"send-http.json", "a webhook that works", "delivered"},
		{"", "recovers on the third attempt", "delivered"},
		{"", "answers 503", "dead_lettered"},
		{"", "answers 503", "dead_lettered"},
		{"", "answers 404", "dead_lettered"},
		{"", "hangs past the deadline", "dead_lettered"},
	} {
		sinks := map[string]string{
			"recovers on the third attempt": "webhook-flaky", "answers 503": "webhook-down",
			"answers 404": "webhook-gone", "hangs past the deadline": "webhook-hang",
		}
		body := fmt.Sprintf(`{"sink":%q,"message":{"subject":%q,"body":"demo"}}`, sinks[send.what], send.what)
		if send.file != "" {
			var e events.APIGatewayV2HTTPRequest
			if err := d.event(send.file, &e); err != nil {
				return err
			}
			body = e.Body
		}
		if err := d.http(ctx, body, send.what, send.want); err != nil {
			return err
		}
	}
	if err := d.direct(ctx, "send-direct.json", "an email", "delivered"); err != nil {
		return err
	}
	if err := d.batch(ctx, "send-sqs.json", "delivered", "delivered", "handed_back", "handed_back", "dead_lettered", "handed_back"); err != nil {
		return err
	}
	if err := d.batch(ctx, "send-sqs-fifo.json", "delivered", "handed_back", "handed_back", "delivered"); err != nil {
		return err
	}
	rows := [][]string{{"VIA", "SINK", "WHAT", "FATE", "DETAIL"}}
	for _, f := range d.fates {
		rows = append(rows, []string{f.via, f.sink, f.what, f.status, f.detail})
		if f.status != f.want {
			d.wrong = append(d.wrong, fmt.Sprintf("%s to %s (%s): %s, want %s", f.via, f.sink, f.what, f.status, f.want))
		}
	}
	return d.table(rows)
}

// sent is an answer of the send function, or the problem in its place.
type sent struct {
	Status     any    `json:"status"` // a problem's is a number
	DeliveryID string `json:"delivery_id"`
	Reason     string `json:"reason"`
	Attempts   int    `json:"attempts"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
}

func (d *demo) note(via, what, want, sink string, a sent) {
	f := fate{via: via, what: what, want: want, sink: sink, id: a.DeliveryID, detail: fmt.Sprintf("attempts=%d", a.Attempts)}
	var ok bool
	if f.status, ok = a.Status.(string); !ok {
		f.status, f.detail = "handed_back", a.Code+": "+a.Detail
	}
	if a.Reason != "" {
		f.detail += " reason=" + a.Reason
	}
	d.fates = append(d.fates, f)
}

func (d *demo) http(ctx context.Context, body, what, want string) error {
	var request struct{ Sink string }
	if err := json.Unmarshal([]byte(body), &request); err != nil {
		return err
	}
	var a sent
	if err := d.call(ctx, http.MethodPost, "/v1/messages", body, &a); err != nil {
		return err
	}
	d.note("http", what, want, request.Sink, a)
	return nil
}

func (d *demo) direct(ctx context.Context, file, what, want string) error {
	var request struct{ Sink string }
	if err := d.event(file, &request); err != nil {
		return err
	}
	var a sent
	if err := d.invoke(ctx, local.Send, file, &a); err != nil {
		return err
	}
	d.note("direct", what, want, request.Sink, a)
	return nil
}

// batch sends an SQS event. What is in batchItemFailures was handed back; what became
// of the rest, the DLQ API knows.
func (d *demo) batch(ctx context.Context, file string, want ...string) error {
	var e events.SQSEvent
	if err := d.event(file, &e); err != nil {
		return err
	}
	var answer events.SQSEventResponse
	if err := d.invoke(ctx, local.Queue, file, &answer); err != nil {
		return err
	}
	via := strings.TrimSuffix(strings.TrimPrefix(file, "send-"), ".json")
	for i, rec := range e.Records {
		f := fate{via: via, id: rec.MessageId, want: want[i], sink: "-", what: "record " + fmt.Sprint(i+1)}
		var request struct{ Sink string }
		if json.Unmarshal([]byte(rec.Body), &request) == nil {
			f.sink = request.Sink
		}
		back := slices.ContainsFunc(answer.BatchItemFailures, func(x events.SQSBatchItemFailure) bool { return x.ItemIdentifier == rec.MessageId })
		if back {
			f.status, f.detail = "handed_back", "stays in the queue"
		} else {
			var known struct {
				Status string `json:"status"`
				ItemID string `json:"item_id"`
			}
			if err := d.call(ctx, http.MethodGet, "/v1/deliveries?sink="+request.Sink+"&id="+rec.MessageId, "", &known); err != nil {
				return err
			}
			f.status, f.detail = known.Status, known.ItemID
		}
		d.fates = append(d.fates, f)
	}
	return nil
}

// listed is the part of a list of dead letters that the demo shows.
type listed struct {
	Items []struct {
		ID        string `json:"id"`
		Sink      string `json:"sink"`
		Reason    string `json:"reason"`
		Attempts  int    `json:"attempts"`
		LastError string `json:"last_error"`
		Replays   int    `json:"replays"`
	} `json:"items"`
}

func (d *demo) list(ctx context.Context) error {
	var page listed
	if err := d.call(ctx, http.MethodGet, "/v1/dlq/items?limit=100", "", &page); err != nil {
		return err
	}
	rows := [][]string{{"ID", "REASON", "ATTEMPTS", "REPLAYS", "LAST ERROR"}}
	for _, it := range page.Items {
		rows = append(rows, []string{it.ID, it.Reason, fmt.Sprint(it.Attempts), fmt.Sprint(it.Replays), clipTo(it.LastError, 60)})
	}
	d.remaining = len(page.Items)
	return d.table(rows)
}

func (d *demo) replay(ctx context.Context) error {
	d.stack.Inbox.HTTP.Heal(local.PathDown)
	schedule := &lambdahost.Schedule{Invoker: d.stack.Host, Function: local.Replay, Every: time.Minute}
	res, err := schedule.Tick(ctx)
	if err != nil {
		return err
	}
	if res.FunctionError != "" {
		return fmt.Errorf("replay: %s", res.Payload)
	}
	type counts struct{ Claimed, Delivered, Failed, Parked, Skipped, Remaining int }
	var summary struct {
		counts
		Sinks map[string]struct {
			counts
			HeldBack string `json:"held_back"` // why its receiver is left alone
		}
	}
	if err := json.Unmarshal(res.Payload, &summary); err != nil {
		return err
	}
	rows := [][]string{{"SINK", "CLAIMED", "DELIVERED", "FAILED", "REMAINING"}}
	line := func(name string, c counts) {
		rows = append(rows, []string{name, fmt.Sprint(c.Claimed), fmt.Sprint(c.Delivered), fmt.Sprint(c.Failed), fmt.Sprint(c.Remaining)})
	}
	for _, name := range sortedKeys(summary.Sinks) {
		s := summary.Sinks[name]
		line(name, s.counts)
		if s.HeldBack != "" {
			d.wrong = append(d.wrong, name+": "+s.HeldBack)
		}
	}
	line("(all)", summary.counts)
	d.replayed = summary.Delivered
	if summary.Delivered != 2 {
		d.wrong = append(d.wrong, fmt.Sprintf("the replay delivered %d, want 2", summary.Delivered))
	}
	if err := d.table(rows); err != nil {
		return err
	}
	if err := d.printf("\nLeft in the queue:\n\n"); err != nil {
		return err
	}
	return d.list(ctx)
}

func (d *demo) discard(ctx context.Context) error {
	var page listed
	if err := d.call(ctx, http.MethodGet, "/v1/dlq/items?limit=100", "", &page); err != nil {
		return err
	}
	for _, it := range page.Items {
		if err := d.call(ctx, http.MethodDelete, "/v1/dlq/items/"+it.ID, "", nil); err != nil {
			return err
		}
		d.discarded++
		if err := d.printf("discarded %s (%s)\n", it.ID, it.Reason); err != nil {
			return err
		}
	}
	var count struct{ Count int }
	err := d.call(ctx, http.MethodGet, "/v1/dlq/count", "", &count)
	d.remaining = count.Count
	return err
}

// arrived shows what the outside world got, and compares it with what was reported.
func (d *demo) arrived(context.Context) error {
	got := map[string]int{}
	accepted := map[string]int{} // by webhook-id
	for _, a := range d.stack.Inbox.HTTP.Arrivals() {
		if a.Accepted() {
			got[a.Path]++
			accepted[a.ID()]++
		}
	}
	rows := [][]string{{"WHERE", "ACCEPTED"}}
	for _, path := range sortedKeys(got) {
		rows = append(rows, []string{path, fmt.Sprint(got[path])})
	}
	mails := len(d.stack.Inbox.Mail.Mails())
	rows = append(rows, []string{"mail", fmt.Sprint(mails)})

	reported := map[string]int{}
	for _, f := range d.fates {
		if f.status == "delivered" {
			reported[f.sink]++
			if strings.HasPrefix(f.sink, "webhook") && accepted[f.id] != 1 {
				d.wrong = append(d.wrong, fmt.Sprintf("delivery %s arrived %d times, want once", f.id, accepted[f.id]))
			}
		}
	}
	for what, pair := range map[string][2]int{
		"Slack messages":                {got[local.PathSlack], reported["slack-demo"]},
		"emails":                        {mails, reported["email-demo"]},
		"replayed to " + local.PathDown: {got[local.PathDown], d.replayed},
	} {
		if pair[0] != pair[1] {
			d.wrong = append(d.wrong, fmt.Sprintf("%s: %d arrived, %d were reported", what, pair[0], pair[1]))
		}
	}
	return d.table(rows)
}

// account prints the last line and fails unless every message is accounted for.
func (d *demo) account() error {
	n := map[string]int{}
	for _, f := range d.fates {
		n[f.status]++
	}
	lost := len(d.fates) - n["delivered"] - n["dead_lettered"] - n["handed_back"] +
		n["dead_lettered"] - d.replayed - d.discarded - d.remaining
	for _, w := range d.wrong {
		if err := d.printf("demo: WRONG: %s\n", w); err != nil {
			return err
		}
	}
	err := d.printf("\ndemo: accepted=%d delivered=%d dead_lettered=%d handed_back=%d replayed=%d discarded=%d remaining=%d lost=%d\n",
		len(d.fates), n["delivered"], n["dead_lettered"], n["handed_back"], d.replayed, d.discarded, d.remaining, lost)
	switch {
	case err != nil:
		return err
	case lost != 0 || len(d.wrong) > 0:
		return fmt.Errorf("demo: %d messages unaccounted for, %d things are not as expected", lost, len(d.wrong))
	}
	return nil
}

// event reads a sample event.
func (d *demo) event(file string, into any) error {
	b, err := os.ReadFile(filepath.Join(d.events, file))
	if err != nil {
		return fmt.Errorf("%w: run it in the project's folder, or name the folder of the samples with --events", err)
	}
	return json.Unmarshal(b, into)
}

func (d *demo) invoke(ctx context.Context, function, file string, into any) error {
	b, err := os.ReadFile(filepath.Join(d.events, file))
	if err != nil {
		return err
	}
	res, err := d.stack.Host.Invoke(ctx, lambdahost.Invocation{Function: function, Payload: b})
	if err != nil {
		return err
	}
	if res.FunctionError != "" {
		return fmt.Errorf("%s: %s", file, res.Payload)
	}
	return json.Unmarshal(res.Payload, into)
}

// call calls the HTTP API. A problem is decoded like an answer.
func (d *demo) call(ctx context.Context, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, d.stack.APIURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if into == nil {
		if resp.StatusCode >= http.StatusBadRequest {
			return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
		}
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
	}
	return nil
}

func (d *demo) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(d.w, format, args...)
	return err
}

func (d *demo) table(rows [][]string) error {
	t := tabwriter.NewWriter(d.w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, "  "+strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
