package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"backstop/client"
)

// edited is a message as an operator edits it: YAML, or JSON, which is YAML too. What is missing stays as it is.
type edited struct {
	Subject   *string           `yaml:"subject,omitempty" json:"subject,omitempty"`
	Body      *string           `yaml:"body,omitempty" json:"body,omitempty"`
	Metadata  map[string]string `yaml:"metadata" json:"metadata"`
	Recipient any               `yaml:"recipient" json:"recipient"`

	said map[string]bool // the members that are there
}

// readEdited reads an operator's text. Its errors name the line.
func readEdited(text []byte) (edited, error) {
	var e edited
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&e); errors.Is(err, io.EOF) {
		return e, errors.New("it is empty: want subject, body, metadata, recipient")
	} else if err != nil {
		return e, errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "in type main.edited", "here: want subject, body, metadata, recipient"), "yaml: "))
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return e, errors.New("there is more than one document")
	}
	var members map[string]any
	if err := yaml.Unmarshal(text, &members); err != nil {
		return e, err
	}
	e.said = map[string]bool{}
	for name := range members {
		e.said[name] = true
	}
	return e, nil
}

// editable is a dead letter's message as text, and read again.
func editable(it client.Item) (string, edited, error) {
	e := edited{Subject: &it.Message.Subject, Body: &it.Message.Body, Metadata: it.Message.Metadata}
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	if len(it.Recipient) > 0 {
		if err := json.Unmarshal(it.Recipient, &e.Recipient); err != nil {
			return "", e, fmt.Errorf("its recipient cannot be edited: %w", err)
		}
	}
	text, err := yaml.Marshal(e)
	if err != nil {
		return "", e, err
	}
	read, err := readEdited(text)
	if err != nil || *read.Subject != *e.Subject || *read.Body != *e.Body || !maps.Equal(read.Metadata, e.Metadata) {
		// What YAML would change is shown as JSON.
		if text, err = json.MarshalIndent(e, "", "  "); err != nil {
			return "", e, err
		}
		if read, err = readEdited(text); err != nil {
			return "", e, err
		}
	}
	return strings.TrimSuffix(string(text), "\n") + "\n", read, nil
}

// changes sets what after changes of before, and reports whether there is anything.
func (e edited) changes(after edited, o *client.ReplayOptions) (bool, error) {
	var m client.MessageEdit
	if after.Subject != nil && *after.Subject != *e.Subject {
		m.Subject = after.Subject
	}
	if after.Body != nil && *after.Body != *e.Body {
		m.Body = after.Body
	}
	if after.said["metadata"] && !maps.Equal(after.Metadata, e.Metadata) {
		m.Metadata = after.Metadata
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
	}
	if m.Subject != nil || m.Body != nil || m.Metadata != nil {
		o.Message = &m
	}
	if after.said["recipient"] && !reflect.DeepEqual(after.Recipient, e.Recipient) {
		b, err := json.Marshal(after.Recipient)
		if err != nil {
			return false, fmt.Errorf("recipient: %w", err)
		}
		o.Recipient = b
	}
	return o.Message != nil || o.Recipient != nil, nil
}

// with is e with what after says.
func (e edited) with(after edited) edited {
	e.Subject, e.Body = cmp.Or(after.Subject, e.Subject), cmp.Or(after.Body, e.Body)
	if after.said["metadata"] {
		e.Metadata = after.Metadata
	}
	if after.said["recipient"] {
		e.Recipient = after.Recipient
	}
	return e
}

const editHead = `# The message of %s. Save it and close: you see what changes, and are asked before anything is sent. Without
# a change nothing is. What you take out stays as it was: leave it empty to have it empty.
`

// replayEdited sends another message in place of a dead letter's: from a file, or as an editor leaves it.
func replayEdited(c *cobra.Command, api session, id, file string, yes bool, o client.ReplayOptions) error {
	var after edited
	if file != "" {
		var err error
		if after, err = readEdits(c, file); err != nil {
			return err
		}
	}
	it, err := api.Item(c.Context(), id)
	if err != nil {
		return err
	}
	switch {
	case it.DecodeError != "":
		return &exitError{code: exitFailed, err: fmt.Errorf("%s cannot be read: %s", oneLine(it.ID), oneLine(it.DecodeError))}
	case file == "" && it.SupersededBy != "":
		return &exitError{code: exitConflict, err: fmt.Errorf("%s is superseded by %s: edit that one", oneLine(it.ID), oneLine(it.SupersededBy))}
	}
	text, before, err := editable(it)
	if err != nil {
		return err
	}
	keep, gone := func(err error) error { return err }, func() {}
	if file == "" {
		after, file, err = edit(c, fmt.Sprintf(editHead, oneLine(it.ID))+text)
		keep = func(err error) error { return hinted(err, "The text is in %s: give it with --edit --file.", file) }
		gone = func() { _ = os.Remove(file) }
	}
	if err != nil {
		return err
	}
	changed, err := before.changes(after, &o)
	if err != nil {
		return keep(err)
	}
	if !changed && o.Sink == "" {
		gone()
		note(c, "Nothing was changed: nothing was sent.")
		return nil
	}
	if err := showChanges(c, before, before.with(after)); err != nil {
		return keep(err)
	}
	to := ""
	if o.Sink != "" {
		to = " through " + oneLine(o.Sink)
	}
	if err := confirm(c, yes, "Send this in place of "+oneLine(it.ID)+to+"?"); err != nil {
		return keep(err)
	}
	if err := replayOne(c.Context(), api, id, o); err != nil && exitCode(err) != exitFailed {
		return keep(err)
	} else if err != nil { // the answer is there: what was made of it has the text
		gone()
		return err
	}
	gone()
	return nil
}

// showChanges shows what is changed.
func showChanges(c *cobra.Command, before, after edited) error {
	was, err := yaml.Marshal(before)
	if err != nil {
		return err
	}
	now, err := yaml.Marshal(after)
	if err != nil {
		return err
	}
	for _, line := range difference(lines(was), lines(now)) {
		note(c, "%s", printable(line))
	}
	return nil
}

func lines(text []byte) []string { return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") }

// readEdits reads a file, or standard input.
func readEdits(c *cobra.Command, file string) (edited, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(c.InOrStdin())
	} else {
		b, err = os.ReadFile(file) //nolint:gosec // the operator names it
	}
	if err != nil {
		return edited{}, usage("--file: %v", err)
	}
	e, err := readEdited(b)
	if err != nil {
		return e, usage("--file %s: %v", file, err)
	}
	return e, nil
}

// edit opens the text in an editor until it can be read, and returns the file that has it.
func edit(c *cobra.Command, text string) (e edited, file string, err error) {
	f, err := os.CreateTemp("", "backstop-*.yaml")
	if err != nil {
		return e, "", err
	}
	file = f.Name()
	_, err = f.WriteString(text)
	if err = cmp.Or(err, f.Close()); err == nil {
		err = open(c, file)
	}
	if err != nil {
		_ = os.Remove(file)
		return e, "", err
	}
	for {
		b, err := os.ReadFile(file) //nolint:gosec // it is our own
		if err != nil {
			return e, "", err
		}
		if e, err = readEdited(b); err == nil {
			return e, file, nil
		}
		note(c, "It cannot be read: %s", oneLine(err.Error()))
		if err = confirm(c, false, "Open it again?"); err == nil {
			err = open(c, file)
		}
		if err != nil {
			return e, "", hinted(&exitError{code: exitFailed, err: errors.New("nothing was sent")}, "The text is in %s: give it with --edit --file.", file)
		}
	}
}

// open runs the operator's editor on a file.
func open(c *cobra.Command, file string) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	words := append(strings.Fields(editor), file)
	run := exec.CommandContext(c.Context(), words[0], words[1:]...) //nolint:gosec // it is the operator's own
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
	if !isTerminal(os.Stdout) { // it is for the answer
		run.Stdout = os.Stderr
	}
	if err := run.Run(); err != nil {
		return &exitError{code: exitFailed, err: fmt.Errorf("the editor %q: %w; nothing was sent", editor, err), hint: "Name another in VISUAL or EDITOR, or give the message with --edit --file FILE."}
	}
	return nil
}

// around is how many lines are shown around a change.
const around = 2

// difference returns the lines that differ, with "-" and "+" in front, and those around them.
func difference(a, b []string) (out []string) {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	show := func(mark string, lines []string) {
		for _, l := range lines {
			out = append(out, mark+" "+l)
		}
	}
	show(" ", a[max(0, start-around):start])
	pairs := common(a[start:endA], b[start:endB])
	i, j := start, start
	for _, p := range pairs {
		show("-", a[i:start+p[0]])
		show("+", b[j:start+p[1]])
		show(" ", a[start+p[0]:start+p[0]+1])
		i, j = start+p[0]+1, start+p[1]+1
	}
	show("-", a[i:endA])
	show("+", b[j:endB])
	show(" ", a[endA:min(len(a), endA+around)])
	return out
}

// common returns the indices of a longest common subsequence; none where that is much work.
func common(a, b []string) (pairs [][2]int) {
	const most = 1_000_000
	if len(a)*len(b) > most {
		return nil
	}
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i, x := range slices.Backward(a) {
		for j, y := range slices.Backward(b) {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); x == y {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
