package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documented finds the commands in the code blocks of a page.
var documented = regexp.MustCompile(`(?m)^ *(?:build/)?(?:\S+=\S+ )?(backstop .*)$`)

// shellWord is a word of a command line; quotes are taken off below.
var shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)

// The commands of the pages exist, with their flags, and take these arguments. They are
// not run here.
func TestTheDocumentedCommandsExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "../../README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range documented.FindAllStringSubmatch(string(b), -1) {
			line, _, _ := strings.Cut(m[1], "  #")
			found++
			if err := understood(line); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), line, err)
			}
		}
	}
	if found < 25 {
		t.Errorf("%d commands found in the pages: does the test still see them?", found)
	}
}

// understood reports whether the command line is one of ours.
func understood(line string) error {
	var args []string
	for _, w := range shellWord.FindAllString(line, -1)[1:] {
		if w == "|" || w == ">" || w == "&&" {
			break
		}
		args = append(args, strings.Trim(w, `'"`))
	}
	c, rest, err := newRoot().Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.HasSubCommands() && len(c.Flags().Args()) > 0 {
		return unknownCommand(c, c.Flags().Arg(0))
	}
	return c.ValidateArgs(c.Flags().Args())
}
