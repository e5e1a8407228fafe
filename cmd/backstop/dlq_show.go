package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"backstop/client"
)

func newDLQShow(conn *connection) *cobra.Command {
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter in full",
		Long: `Show prints everything that is known of one dead letter: recipient, message, failures, replays. What a
terminal would act on is replaced; -o json has it unchanged, in a terminal as escapes.

With --as curl or --as cli it prints what would send this message once more, as a new delivery: to keep it, to change it, to try it
elsewhere. It holds the whole message and its recipient; of credentials, curl gets the names of the variables that hold them.

Where BACKSTOP_CONSOLE_URL says where a console is, a line says where this dead letter is shown there.`,
		Example: `  backstop dlq show ops-slack~1767225600000-0
  backstop dlq show ops-slack~1767225600000-0 --as curl
  backstop dlq show ops-slack~1767225600000-0 -o json | jq -r .message.body`,
		Args: cobra.ExactArgs(1),
	}
	var as string
	c.Flags().StringVar(&as, "as", "", "print what would send it once more: curl or cli")
	_ = c.RegisterFlagCompletionFunc("as", cobra.FixedCompletions([]string{"curl", "cli"}, cobra.ShellCompDirectiveNoFileComp))
	c.ValidArgsFunction = first(completeItems(conn))
	c.RunE = func(c *cobra.Command, args []string) error {
		if as != "" && as != "curl" && as != "cli" {
			return usage("--as %q: want curl or cli", as)
		}
		api, err := conn.open(c)
		if err != nil {
			return err
		}
		it, err := api.Item(c.Context(), args[0])
		if err != nil {
			return err
		}
		if as != "" {
			line, err := onceMore(it, as, conn)
			if err == nil {
				err = printText(api.out, line+"\n")
			}
			return err
		}
		if api.json {
			return printJSON(api.out, it.JSON)
		}
		if err := printItem(api, it, time.Now()); err != nil {
			return err
		}
		if at := os.Getenv("BACKSTOP_CONSOLE_URL"); at != "" {
			note(c, "\n%s", link(c.ErrOrStderr(), strings.TrimSuffix(at, "/")+"/#/items/"+url.PathEscape(it.ID)))
		}
		return nil
	}
	return c
}

// link is a URL, which a terminal opens.
func link(w io.Writer, to string) string {
	if !obeys(w) {
		return to
	}
	return "\x1b]8;;" + to + "\x1b\\" + to + "\x1b]8;;\x1b\\"
}

// onceMore is a command that sends the message of a dead letter once more, as a delivery of its own.
func onceMore(it client.Item, as string, conn *connection) (string, error) {
	if it.DecodeError != "" {
		return "", &exitError{code: exitFailed, err: fmt.Errorf("%s cannot be read: there is nothing to send", it.ID)}
	}
	recipient := strings.TrimSpace(string(it.Recipient))
	if recipient == "null" {
		recipient = ""
	}
	if as == "cli" {
		words := []string{"backstop", "send", "--sink", it.Sink}
		for _, f := range [][2]string{{"--recipient", recipient}, {"--subject", it.Message.Subject}, {"--body", it.Message.Body}} {
			if f[1] != "" {
				words = append(words, f[0], f[1])
			}
		}
		for _, k := range slices.Sorted(maps.Keys(it.Message.Metadata)) {
			words = append(words, "--metadata", k+"="+it.Message.Metadata[k])
		}
		for i, w := range words {
			if plainWord().FindString(w) != w {
				words[i] = shellQuote(w)
			}
		}
		return strings.Join(words, " ") + conn.flags(), nil
	}
	again := client.SendRequest{
		ID: uuid.Must(uuid.NewV7()).String(), Sink: it.Sink,
		Message: client.SendMessage{Subject: it.Message.Subject, Body: it.Message.Body, Metadata: it.Message.Metadata},
	}
	if recipient != "" {
		again.Recipient = json.RawMessage(recipient)
	}
	b, err := json.Marshal(again)
	return "curl -sS " + conn.base() + "/v1/messages" + conn.curl() + " -H 'Content-Type: application/json' -d " + shellQuote(string(b)), err
}

// plainWord matches a word that a shell takes as it is.
var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[A-Za-z0-9_./:=~@%+-]+`) })

func printItem(api session, it client.Item, now time.Time) error {
	if err := itemTable(it, now).wrap(api.wide).print(api.out); err != nil {
		return err
	}
	if err := printReplays(api, it.History); err != nil {
		return err
	}
	text := "\n" + strings.TrimSuffix(printable(it.Message.Body), "\n") + "\n"
	if it.DecodeError != "" {
		text = fmt.Sprintf("\nThe entry cannot be read: %s\n\n%s\n", printable(it.DecodeError), printable(it.RawEntry))
	}
	_, err := io.WriteString(api.out, text)
	return err
}

// itemTable has a line for each thing that is known of a dead letter but its body.
func itemTable(it client.Item, now time.Time) *table {
	t := &table{}
	line := func(label string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "0" {
			t.add(label, s)
		}
	}
	at := func(label string, tm time.Time) {
		if !tm.IsZero() {
			t.add(label, clock(tm))
		}
	}
	line("id", it.ID)
	t.add("state", stateOf(it, now))
	at("next replay", it.NextReplayAt)
	if !it.ExpiresAt.IsZero() {
		t.add("expires", moment(now, it.ExpiresAt))
	}
	if it.State == client.StateScheduled { // the schedule leaves others alone, or replays them now
		at("not before", it.NotBefore)
	}
	line("reason", it.Reason)
	t.add("last error", it.LastError)
	t.add("attempts", it.Attempts)
	line("group", it.Group)
	line("sink", it.Sink)
	line("delivery", it.DeliveryID)
	at("accepted", it.AcceptedAt)
	at("first failed", it.FirstFailedAt)
	t.add("dead since", clock(it.At)+" ("+age(now, it.At)+" ago)")
	line("replays", it.Replays)
	at("delivered", it.DeliveredAt)
	line("origin", it.Origin)
	line("superseded by", it.SupersededBy)
	line("trace", it.Trace)
	if to := strings.TrimSpace(string(it.Recipient)); to != "null" {
		line("recipient", to)
	}
	line("subject", it.Message.Subject)
	for _, k := range slices.Sorted(maps.Keys(it.Message.Metadata)) {
		t.add("metadata "+k, it.Message.Metadata[k])
	}
	return t
}

// printReplays prints the replays that a dead letter remembers, if there are any.
func printReplays(api session, history []client.ReplayRecord) error {
	if len(history) == 0 {
		return nil
	}
	t := newTable("REPLAYED", "OUTCOME").wrap(api.wide)
	for _, r := range history {
		t.add(clock(r.At), cmp.Or(r.Error, "delivered"))
	}
	if _, err := fmt.Fprintln(api.out); err != nil {
		return err
	}
	return t.print(api.out)
}
