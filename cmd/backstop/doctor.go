package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/version"
)

// verdict is what doctor says of a thing.
type verdict string

// The verdicts, worst last.
const (
	isOK      verdict = "ok"
	isUnknown verdict = "unknown" // nothing tells
	isWarning verdict = "warning" // it works, and somebody should look
	isBad     verdict = "bad"
)

// diagnosis is one thing that doctor looked at.
type diagnosis struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Says    string  `json:"says"`
	Advice  string  `json:"advice,omitempty"` // what to do; empty: nothing
}

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything between this terminal and the dead-letter queue, and say what is wrong",
		Long: `Doctor asks the API once, and says of each thing between here and there whether it is well: this program, the API and its
version, credentials, clocks, the sinks' configuration and its age, Redis, the schedule, the journal, the
sinks' receivers, and what waits in the queue. It changes nothing and sends nothing.

Exit code 0: all is well. 1: something is bad, or somebody should look at it (warning). Where the API does not answer, that
one's: 5, or 6 when it is the credentials.

` + connectHelp,
		Example: `  backstop doctor
  backstop doctor --api https://abc123.execute-api.eu-central-1.amazonaws.com
  backstop doctor -o json | jq -r '.checks[] | select(.verdict != "ok")'`,
		Args: cobra.NoArgs,
	}
	conn := addConnection(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		asJSON, err := wantsJSON(c)
		if err != nil {
			return err
		}
		checks, failed := examine(c.Context(), c, conn)
		if asJSON {
			err = marshalJSON(c.OutOrStdout(), map[string]any{"checks": checks})
		} else {
			err = printDiagnoses(c, checks)
		}
		switch {
		case err != nil:
			return err
		case failed != nil:
			return &exitError{code: exitCode(failed), err: errors.New("the API does not answer as it should")}
		}
		if n := len(slices.DeleteFunc(checks, func(d diagnosis) bool { return d.Verdict != isBad && d.Verdict != isWarning })); n > 0 {
			return &exitError{code: exitFailed, err: fmt.Errorf("%s to look at", plural(int64(n), "thing"))}
		}
		return nil
	}
	return c
}

func printDiagnoses(c *cobra.Command, checks []diagnosis) error {
	t := newTable("CHECK", "VERDICT", "WHAT").wrap(wantsWide(c))
	if colours(c.OutOrStdout()) {
		of := map[verdict]string{isOK: green, isUnknown: yellow, isWarning: yellow, isBad: red}
		t.paint = func(column int, cell string) string {
			if colour := of[verdict(cell)]; column == 1 && colour != "" {
				return colour + cell + plain
			}
			return cell
		}
	}
	for _, d := range checks {
		t.add(d.Check, d.Verdict, d.Says)
		if d.Advice != "" {
			for line := range strings.Lines(d.Advice) {
				t.rows = append(t.rows, []string{"", "", "  " + oneLine(line)})
			}
		}
	}
	return t.print(c.OutOrStdout())
}

// examine asks the API, and says what that tells. The error is why it does not answer.
func examine(ctx context.Context, c *cobra.Command, conn *connection) ([]diagnosis, error) {
	build := version.Read()
	checks := []diagnosis{{Check: "program", Verdict: isOK, Says: "backstop " + build.String()}}
	api, err := conn.open(c)
	var s client.Sinks
	start := time.Now()
	if err == nil {
		s, err = api.Sinks(ctx)
	}
	took := time.Since(start)
	if err != nil {
		return append(checks, unanswered(err)), err
	}
	checks = append(checks,
		diagnosis{Check: "api", Verdict: isOK, Says: fmt.Sprintf("%s answers in %s", conn.base(), took.Round(time.Millisecond))},
		credentialsOf(conn), builds(build.Version, s.Version), clocks(s.Now, start, took), configuration(s), redisOf(s), schedule(s), journalOf(s))
	return append(append(checks, receivers(s)...), deadLetters(s)), nil
}

// unanswered tells apart why the API does not answer.
func unanswered(err error) diagnosis {
	d := diagnosis{Check: "api", Verdict: isBad, Says: message(err), Advice: hint(err)}
	if exitCode(err) == exitUnauthorized {
		d.Check = "credentials"
	}
	return d
}

func credentialsOf(conn *connection) diagnosis {
	d := diagnosis{Check: "credentials", Verdict: isOK}
	_, gateway := client.GatewayRegion(conn.base())
	switch {
	case conn.token != "":
		d.Says = "a token is taken"
	case conn.sign || gateway && !conn.noSign:
		d.Says = "signed requests are taken"
	default:
		d.Says = "none are sent, and none are asked for"
	}
	return d
}

func builds(own, other string) diagnosis {
	d := diagnosis{Check: "version", Verdict: isOK, Says: "the API is " + cmp.Or(other, "of an older version, which does not say which")}
	switch {
	case other == "":
		d.Verdict = isUnknown
	case other != own:
		d.Verdict, d.Says = isUnknown, fmt.Sprintf("the API is %s, this program %s: what one of them has the other may not know", other, own)
	}
	return d
}

// skew is by how much clocks may differ: signatures are refused beyond five minutes.
const skew = 30 * time.Second

func clocks(theirs, start time.Time, took time.Duration) diagnosis {
	d := diagnosis{Check: "clock", Verdict: isUnknown, Says: "the API does not tell its time"}
	if theirs.IsZero() {
		return d
	}
	off := theirs.Sub(start.Add(took / 2)).Round(time.Second)
	d.Verdict, d.Says = isOK, fmt.Sprintf("it is within %s of the API's", max(off.Abs(), took.Round(time.Second), time.Second))
	if off.Abs() > skew+took {
		d.Verdict, d.Says = isBad, fmt.Sprintf("this machine's clock is %s off the API's", off.Abs())
		d.Advice = "Set it by NTP: times that you give mean others there, and AWS refuses signatures that are five minutes off."
	}
	return d
}

func configuration(s client.Sinks) diagnosis {
	var faulty []string
	configured := 0
	for _, x := range s.Sinks {
		if x.Configured {
			configured++
		}
		if x.ConfigError != "" {
			faulty = append(faulty, x.Name)
		}
	}
	d := diagnosis{Check: "configuration", Verdict: isOK, Says: fmt.Sprintf("%s, read %s ago", plural(int64(configured), "sink"), span(time.Duration(s.ConfigAgeSeconds)*time.Second))}
	switch {
	case s.ConfigAgeSeconds < 0:
		d.Verdict, d.Says, d.Advice = isBad, "there is none: "+s.ConfigError, "The functions read it from BACKSTOP_SINKS; 'backstop config push' writes it."
	case s.ConfigError != "":
		d.Verdict, d.Says, d.Advice = isWarning, d.Says+", and cannot be refreshed: "+s.ConfigError, "What was read before stays in use."
	case len(faulty) > 0:
		d.Verdict, d.Says = isBad, d.Says+", faulty: "+strings.Join(faulty, ", ")
		d.Advice = "What is sent to them becomes dead letters. 'backstop config check SOURCE' says what is wrong."
	}
	return d
}

func redisOf(s client.Sinks) diagnosis {
	var unread []string
	for _, x := range s.Sinks {
		if x.QueueError != "" {
			unread = append(unread, x.Name+": "+clipTo(x.QueueError, 80))
		}
	}
	if len(unread) > 0 {
		return diagnosis{Check: "redis", Verdict: isBad, Says: fmt.Sprintf("%s cannot be read: %s", plural(int64(len(unread)), "queue"), unread[0]), Advice: "A slot may be moving, or a node be away: look at the cache."}
	}
	return diagnosis{Check: "redis", Verdict: isOK, Says: "every queue could be read"}
}

// late is when a schedule that runs each minute is late.
const late = 5 * time.Minute

func schedule(s client.Sinks) diagnosis {
	d := diagnosis{Check: "schedule", Verdict: isOK}
	ago := s.Now.Sub(s.ScheduleRanAt)
	switch {
	case s.ScheduleRanAt.IsZero():
		d.Verdict, d.Says = isWarning, "no run is known"
		d.Advice = "Nothing is replayed by itself until it runs: is the schedule enabled, and does its function fail? Its log says why."
	case ago > late:
		d.Verdict, d.Says = isBad, "it ran last "+span(ago)+" ago"
		d.Advice = "Nothing is replayed by itself. Is the schedule enabled, and does its function fail? Its log says why."
	default:
		d.Says = "it ran last " + span(ago) + " ago"
	}
	return d
}

func journalOf(s client.Sinks) diagnosis {
	d := diagnosis{Check: "journal", Verdict: isOK, Says: "it has what the queue has"}
	var spilled, unjournaled int64
	var lost []string
	for _, x := range s.Sinks {
		spilled, unjournaled = spilled+x.Spilled, unjournaled+x.Unjournaled
		if !x.QueueLostSince.IsZero() {
			lost = append(lost, x.Name)
		}
	}
	switch {
	case !s.Journal:
		d.Says, d.Advice = "there is none", "With one (BACKSTOP_JOURNAL) a cache that is lost takes no dead letters along."
	case len(lost) > 0:
		d.Verdict, d.Says, d.Advice = isBad, "the queue lost dead letters of "+strings.Join(lost, ", "), "backstop dlq restore"
	case spilled > 0:
		d.Verdict, d.Says, d.Advice = isWarning, plural(spilled, "dead letter")+" wait in it for room in the queue", "Replay or discard some, or raise the cap."
	case unjournaled > 0:
		d.Verdict, d.Says = isWarning, plural(unjournaled, "dead letter")+" of the queue are not in it yet"
	}
	return d
}

// receivers says which sinks are not well; all of them in a line where none is.
func receivers(s client.Sinks) []diagnosis {
	var all []diagnosis
	now := s.Now
	for _, x := range s.Sinks {
		word, more := sinkState(now, x)
		if !slices.Contains([]client.SinkState{client.SinkFailing, client.SinkOpen, client.SinkHeld, client.SinkPaused}, client.SinkState(word)) {
			continue
		}
		d := diagnosis{Check: "sink", Verdict: isWarning, Says: x.Name + " is " + word}
		if more != "" {
			d.Says += ", " + more
		}
		if x.Paused {
			d.Advice = "backstop sinks resume " + x.Name
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		all = append(all, diagnosis{Check: "sinks", Verdict: isOK, Says: "none is paused, failing, held or left alone"})
	}
	return all
}

func deadLetters(s client.Sinks) diagnosis {
	var depth, due, decide int64
	oldest := int64(0)
	for _, x := range s.Sinks {
		depth, due = depth+max(x.Depth, 0), due+max(x.Due, 0)
		decide += x.States[client.StateParked] + x.States[client.StateWaiting]
		oldest = max(oldest, x.OldestAgeSeconds)
	}
	d := diagnosis{Check: "queue", Verdict: isOK, Says: "no dead letters"}
	if depth > 0 {
		d.Says = fmt.Sprintf("%s, the oldest of %s; the schedule replays %d of them", plural(depth, "dead letter"), span(time.Duration(oldest)*time.Second), due)
	}
	if decide > 0 {
		d.Verdict, d.Says, d.Advice = isWarning, d.Says+fmt.Sprintf(", %d wait for you", decide), "backstop dlq groups"
	}
	return d
}
