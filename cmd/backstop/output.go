package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// format is how a command prints: for people or for scripts.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

// addFormat adds -o to c and the commands below it.
func addFormat(c *cobra.Command) {
	c.PersistentFlags().Bool("wide", false, "show all columns of a table, and each line as long as it is, in a terminal too")
	c.PersistentFlags().StringP("output", "o", string(formatTable), "table for people, json for scripts (what the API answers, as it comes)")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// wantsWide reports whether the command prints its tables as wide as they are.
func wantsWide(c *cobra.Command) bool {
	wide, err := c.Flags().GetBool("wide")
	return err == nil && wide
}

// wantsJSON reports whether the command prints JSON; an error names an unknown format.
func wantsJSON(c *cobra.Command) (bool, error) {
	f, err := c.Flags().GetString("output")
	if err != nil {
		return false, err
	}
	switch format(f) {
	case formatTable:
		return false, nil
	case formatJSON:
		return true, nil
	}
	return false, usage("-o %q: want table or json", f)
}

// printJSON prints an answer as it came, and to a terminal so that it reads the same (see
// escape).
func printJSON(w io.Writer, b []byte) error {
	return printText(w, strings.TrimSuffix(string(b), "\n")+"\n")
}

// marshalJSON prints v as JSON.
func marshalJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printJSON(w, b)
}

// printText prints JSON, or lines that hold some; to a terminal escaped.
func printText(w io.Writer, s string) error {
	if isTerminal(w) {
		s = escape(s)
	}
	_, err := io.WriteString(w, s)
	return err
}

// escape spells what a terminal would act on, control characters and marks that turn text
// around, as JSON's escapes: outside a string nothing of it can be in JSON.
func escape(s string) string {
	clean := func(r rune) bool { return r == '\n' || r == '\t' || r != utf8.RuneError && unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, func(r rune) bool { return !clean(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case clean(r):
			b.WriteRune(r)
		case r == '\r': // white space between values; a string has its escape
			b.WriteByte(' ')
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// oneLine makes s one printable line.
func oneLine(s string) string { return printable(strings.Join(strings.Fields(s), " ")) }

// printable replaces what a terminal would act on, but for line ends and tabs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// clipTo is the start of a long text, on one line.
func clipTo(s string, most int) string {
	s = oneLine(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// age is how long ago t was, in its largest unit; empty for the zero time.
func age(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return span(now.Sub(t))
}

// span is a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// clock is a time for people; empty for the zero time.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// plural is a number with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// note writes a remark for a person to standard error, where no pipe takes it for data.
func note(c *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
}

// isTerminal reports whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	if s, ok := stream.(interface{ IsTerminal() bool }); ok { // a stream that knows, as in tests
		return s.IsTerminal()
	}
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// printLog prints a line that a function logged, with the function's name in front when
// it is not empty.
func printLog(w io.Writer, function, line string) error {
	if function != "" {
		line = function + " | " + line
	}
	return printText(w, line+"\n")
}
