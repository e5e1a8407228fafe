package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/spf13/cobra"

	"backstop/internal/delay"
	"backstop/internal/inbox"
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
point and to sinks of several kinds, one that recovers, one that is down, one that is gone
and one that hangs; one answered at once, and one sent later and taken back in time; what
the dead-letter queue holds; its Redis wiped, and restored from the journal; the sink healed;
the scheduled replay, too late for one of them; the rest discarded. Its last line is the
accounting. The exit code is 1 when a message is unaccounted for or has another fate than
expected.`,
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
		o := local.Options{Bin: *bin, Timeout: 4 * time.Second, Journal: local.TemporaryJournal}
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

// demo is one run of the story.
type demo struct {
	stack  *local.Stack
	events string
	w      io.Writer
	ledger
}

func (d *demo) play(ctx context.Context) error {
	for _, chapter := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"1. Deliveries over each entry point, to sinks of several kinds", d.deliver},
		{"2. One is answered at once, one is canceled before its time: the queue has both", d.later},
		{"3. What the dead-letter queue holds", d.list},
		{"4. Redis is wiped; what the journal has is restored", d.wipe},
		{"5. webhook-down is healed, and the schedule replays; it is too late for one", d.replay},
		{"6. The operator discards the rest; what expired is kept", d.discard},
		{"7. What arrived", d.arrived},
	} {
		if err := d.printf("\n%s\n\n", chapter.title); err != nil {
			return err
		}
		if err := chapter.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return d.end(ctx)
}

const (
	// sendAfter is how much later the message is sent that is canceled before.
	sendAfter = 2 * time.Second
	// expiresIn is how long the message counts that webhook-down does not get in time: two
	// attempts that are 200 ms apart.
	expiresIn = 3 * time.Second
)

// deliver sends over each entry point.
func (d *demo) deliver(ctx context.Context) error {
	var sample events.APIGatewayV2HTTPRequest
	if err := d.event("send-http.json", &sample); err != nil {
		return err
	}
	if err := d.http(ctx, sample.Body, "a webhook that works", "delivered"); err != nil {
		return err
	}
	for _, send := range []struct {
		sink, what, want string
		expires          bool
	}{
		{"webhook-flaky", "recovers on the third attempt", "delivered", false},
		{"webhook-down", "answers 503", "dead_lettered", false},
		{"webhook-down", "answers 503", "dead_lettered", false},
		{"webhook-down", "answers 503, worth nothing soon", "dead_lettered", true},
		{"webhook-gone", "answers 404", "dead_lettered", false},
		{"webhook-hang", "hangs past the deadline", "dead_lettered", false},
	} {
		more := ""
		var expires time.Time
		if send.expires {
			expires = time.Now().Add(expiresIn)
			more = fmt.Sprintf(`"expires_at":%q,`, expires.UTC().Format(time.RFC3339Nano))
		}
		body := fmt.Sprintf(`{"sink":%q,%s"message":{"subject":%q,"body":"demo"}}`, send.sink, more, send.what)
		if err := d.http(ctx, body, send.what, send.want); err != nil {
			return err
		}
		d.fates[len(d.fates)-1].expires = expires
	}
	for _, send := range []struct{ sink, what string }{
		{"telegram-demo", "a chat message"},
		{"pagerduty-demo", "an alert"},
		{"fcm-demo", "a push message, with an access token"},
	} {
		body := fmt.Sprintf(`{"sink":%q,"message":{"subject":%q,"body":"demo"}}`, send.sink, send.what)
		if err := d.http(ctx, body, send.what, "delivered"); err != nil {
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
		d.check(f.status == f.want, "%s to %s (%s): %s, want %s", f.via, f.sink, f.what, f.status, f.want)
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
			if err := d.call(ctx, http.MethodGet, deliveryPath(request.Sink, rec.MessageId), "", &known); err != nil {
				return err
			}
			f.status, f.detail = known.Status, known.ItemID
		}
		d.fates = append(d.fates, f)
	}
	return nil
}

// listed is the part of a list of dead letters that the demo uses.
type listed struct {
	Items []letter `json:"items"`
}

func (d *demo) list(ctx context.Context) error {
	letters, err := d.letters(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "STATE", "REASON", "ATTEMPTS", "REPLAYS", "LAST ERROR"}}
	for _, it := range letters {
		rows = append(rows, []string{it.ID, it.State, it.Reason, fmt.Sprint(it.Attempts), fmt.Sprint(it.Replays), clipTo(it.LastError, 60)})
	}
	return d.table(rows)
}

func (d *demo) letters(ctx context.Context) ([]letter, error) {
	var page listed
	err := d.call(ctx, http.MethodGet, "/v1/dlq/items?limit=100", "", &page)
	return page.Items, err
}

// wipe empties the Redis, as the loss of a cache does, and restores its dead letters.
func (d *demo) wipe(ctx context.Context) error {
	before, err := d.letters(ctx)
	if err != nil {
		return err
	}
	d.stack.Redis.FlushAll()
	lost, err := d.letters(ctx)
	if err != nil {
		return err
	}
	d.check(len(before) > 0 && len(lost) == 0, "%d dead letters before the wipe, %d after it", len(before), len(lost))
	var op struct {
		ID      string
		Status  any // a problem's is a number
		Detail  string
		Error   string
		Restore struct{ Restored, Damaged int }
	}
	if err := d.call(ctx, http.MethodPost, "/v1/dlq/operations", `{"action":"restore","reason":"its Redis was wiped"}`, &op); err != nil {
		return err
	}
	if op.ID == "" {
		return fmt.Errorf("restore: %v %s", op.Status, op.Detail)
	}
	for op.Status == "queued" || op.Status == "running" {
		if err := delay.Sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("restore %s is %v: %w", op.ID, op.Status, err)
		}
		if err := d.call(ctx, http.MethodGet, "/v1/dlq/operations/"+op.ID, "", &op); err != nil {
			return err
		}
	}
	d.check(op.Status == "completed" && op.Restore.Restored == len(before) && op.Restore.Damaged == 0,
		"the restore of %d dead letters is %v: %+v %s", len(before), op.Status, op.Restore, op.Error)
	after, err := d.letters(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"", "DEAD LETTERS"}, {"before", fmt.Sprint(len(before))}, {"wiped", fmt.Sprint(len(lost))}, {"restored", fmt.Sprint(len(after))}}
	d.check(len(after) == len(before), "%d dead letters after the restore, want %d", len(after), len(before))
	return d.table(rows)
}

// later sends one that is answered at once, and one that is taken back before its time. Then it
// waits until the queue has handed out both.
func (d *demo) later(ctx context.Context) error {
	first := len(d.fates)
	for _, ask := range []struct{ what, body, prefer string }{
		{"respond-async", `{"sink":"webhook-demo","message":{"subject":"answered at once","body":"demo"}}`, "respond-async"},
		{"send_after", fmt.Sprintf(`{"sink":"webhook-demo","send_after":%q,"message":{"subject":"sent later","body":"demo"}}`, sendAfter), ""},
	} {
		var a sent
		if err := d.call(ctx, http.MethodPost, "/v1/messages", ask.body, &a, "Prefer: "+ask.prefer); err != nil {
			return err
		}
		d.note("http", ask.what, "accepted", "webhook-demo", a)
		f := &d.fates[len(d.fates)-1]
		f.async, f.detail = f.status == "accepted", f.status
		d.check(f.async, "%s was answered %s, want accepted", f.what, f.status)
		if ask.prefer != "" {
			continue
		}
		var canceled struct {
			Status any
			Detail string
		}
		if err := d.call(ctx, http.MethodDelete, deliveryPath(f.sink, f.id), "", &canceled); err != nil {
			return err
		}
		f.status = fmt.Sprint(canceled.Status)
		f.detail += ", then " + f.status
		d.check(f.status == "canceled", "the cancellation was answered %s %s", f.status, canceled.Detail)
	}
	for d.stack.Queues.Waiting(local.QueueName) > 0 {
		if err := delay.Sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("the queue does not empty: %w", err)
		}
	}
	rows := [][]string{{"VIA", "SINK", "WHAT", "TOLD", "FATE", "ATTEMPTS"}}
	for i := first; i < len(d.fates); i++ {
		f := &d.fates[i]
		var now struct {
			Status   string
			Attempts int
		}
		if err := d.call(ctx, http.MethodGet, deliveryPath(f.sink, f.id), "", &now); err != nil {
			return err
		}
		told := f.status
		if told == "accepted" {
			f.status = now.Status
		}
		d.check(f.status == now.Status, "%s: its caller was told %s, and it is %s", f.what, told, now.Status)
		rows = append(rows, []string{f.via, f.sink, f.what, f.detail, now.Status, fmt.Sprint(now.Attempts)})
	}
	return d.table(rows)
}

func deliveryPath(sink, id string) string {
	return "/v1/deliveries?" + url.Values{"sink": {sink}, "id": {id}}.Encode()
}

func (d *demo) replay(ctx context.Context) error {
	d.stack.Inbox.HTTP.Heal(local.PathDown)
	for _, f := range d.fates {
		if !f.expires.IsZero() {
			if err := delay.Sleep(ctx, max(time.Until(f.expires), 0)); err != nil {
				return err
			}
		}
	}
	schedule := &lambdahost.Schedule{Invoker: d.stack.Host, Function: local.Replay, Every: time.Minute}
	res, err := schedule.Tick(ctx)
	if err != nil {
		return err
	}
	if res.FunctionError != "" {
		return fmt.Errorf("replay: %s", res.Payload)
	}
	type counts struct{ Claimed, Delivered, Failed, Expired, Parked, Skipped, Remaining int }
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
	rows := [][]string{{"SINK", "CLAIMED", "DELIVERED", "FAILED", "EXPIRED", "REMAINING"}}
	line := func(name string, c counts) {
		rows = append(rows, []string{name, fmt.Sprint(c.Claimed), fmt.Sprint(c.Delivered), fmt.Sprint(c.Failed), fmt.Sprint(c.Expired), fmt.Sprint(c.Remaining)})
	}
	for _, name := range sortedKeys(summary.Sinks) {
		s := summary.Sinks[name]
		line(name, s.counts)
		d.check(s.HeldBack == "", "%s: %s", name, s.HeldBack)
	}
	line("(all)", summary.counts)
	d.scheduled = summary.Delivered
	d.check(summary.Expired == 1, "the schedule marked %d as expired, want 1", summary.Expired)
	if err := d.table(rows); err != nil {
		return err
	}
	if err := d.printf("\nLeft in the queue:\n\n"); err != nil {
		return err
	}
	if err := d.list(ctx); err != nil {
		return err
	}
	return d.tooLate(ctx)
}

// tooLate asks for a replay of what has expired, as 'backstop dlq replay ID' does.
func (d *demo) tooLate(ctx context.Context) error {
	letters, err := d.letters(ctx)
	if err != nil {
		return err
	}
	for _, it := range letters {
		if it.State != "expired" {
			continue
		}
		var a sent
		if err := d.call(ctx, http.MethodPost, "/v1/dlq/items/"+it.ID+"/replay", "{}", &a); err != nil {
			return err
		}
		d.check(a.Code == "INVALID_ARGUMENT", "the replay of %s, which has expired, was answered %v %s", it.ID, a.Status, a.Code)
		if err := d.printf("\nWhoever replays %s all the same is asked for force:\n  %s\n", it.ID, a.Detail); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) discard(ctx context.Context) error {
	letters, err := d.letters(ctx)
	if err != nil {
		return err
	}
	for _, it := range letters {
		if it.State == "expired" {
			if err := d.printf("kept      %s (expired)\n", it.ID); err != nil {
				return err
			}
			continue
		}
		if err := d.call(ctx, http.MethodDelete, "/v1/dlq/items/"+it.ID, "", nil); err != nil {
			return err
		}
		d.discarded = append(d.discarded, it.delivery())
		if err := d.printf("discarded %s (%s)\n", it.ID, it.Reason); err != nil {
			return err
		}
	}
	return nil
}

// services are those of others that the inbox stands for, by the paths that they are called at.
var services = map[string]string{
	local.PathSlack: "Slack", inbox.PathTelegram: "Telegram", inbox.PathPagerDuty: "PagerDuty",
	inbox.PathFCM: "Firebase Cloud Messaging", inbox.PathGoogleToken: "its access token",
}

// arrived shows what the outside world got.
func (d *demo) arrived(context.Context) error {
	d.arrivals, d.mails = d.stack.Inbox.HTTP.Arrivals(), len(d.stack.Inbox.Mail.Mails())
	got := map[string]int{}
	for _, a := range d.arrivals {
		if a.Accepted() {
			got[a.Path]++
		}
	}
	rows := [][]string{{"WHERE", "ACCEPTED"}}
	for _, path := range sortedKeys(got) {
		where := path
		if name := services[path]; name != "" {
			where += " (" + name + ")"
		}
		rows = append(rows, []string{where, fmt.Sprint(got[path])})
	}
	return d.table(append(rows, []string{"mail", fmt.Sprint(d.mails)}))
}

// end prints the last line and fails unless every message is accounted for.
func (d *demo) end(ctx context.Context) error {
	letters, err := d.letters(ctx)
	if err != nil {
		return err
	}
	var known struct {
		Sinks []struct {
			Name    string
			Retired int
		}
	}
	if err := d.call(ctx, http.MethodGet, "/v1/sinks", "", &known); err != nil {
		return err
	}
	d.retired = map[string]int{}
	for _, s := range known.Sinks {
		d.retired[s.Name] = s.Retired
	}
	a := d.settle(letters)
	for _, w := range d.wrong {
		if err := d.printf("demo: WRONG: %s\n", w); err != nil {
			return err
		}
	}
	if err := d.printf("\n%s\n", a); err != nil {
		return err
	}
	if a.lost != 0 || len(d.wrong) > 0 {
		return fmt.Errorf("demo: %d messages unaccounted for, %d things are not as expected", a.lost, len(d.wrong))
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

// call calls the HTTP API, with headers as "Name: value". A problem is decoded like an answer.
func (d *demo) call(ctx context.Context, method, path, body string, into any, header ...string) error {
	req, err := http.NewRequestWithContext(ctx, method, d.stack.APIURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
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
