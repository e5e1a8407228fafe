//go:build full

package stack_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
)

// The comparison's costs are what their formulas say, ours those of the page on deploying.
func TestTheCostsOfTheComparisonAddUp(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs", "why-not.md"), "## What a million messages cost")
	section, _, _ = strings.Cut(section, "\n## ")
	formulas := map[string]string{}
	for _, row := range costRow.FindAllStringSubmatch(section, -1) {
		formulas[row[1]] = row[2]
		if got := fmt.Sprintf("%.2f", math.Ceil(100*evaluate(t, row[2])-1e-6)/100); got != row[3] {
			t.Errorf("%s: %s is %s, the page says %s", row[1], row[2], got, row[3])
		}
	}
	if len(formulas) != 10 {
		t.Errorf("%d rows with formulas, want 10", len(formulas))
	}
	deploy := read(t, "docs", "deploy.md")
	idle := regexp.MustCompile(`Without any delivery the stack costs about (\d+)`).FindStringSubmatch(deploy)
	if idle == nil {
		t.Fatal("deploy.md does not say what a stack without deliveries costs")
	}
	for _, want := range []string{"costs\n  about " + idle[1] + " dollars a month", "about " + idle[1] + " a month for cache"} {
		if !strings.Contains(read(t, "docs", "why-not.md"), want) {
			t.Errorf("why-not.md does not say %q, as deploy.md does", want)
		}
	}
	for _, row := range costRow.FindAllStringSubmatch(deploy, -1) {
		for theirs, ours := range map[string]string{"SQS, batches of ten": "Backstop, SQS by ten", "`POST`": "Backstop, `POST`"} {
			if row[1] == theirs && formulas[ours] != row[2] {
				t.Errorf("%s is %q, deploy.md says %q", ours, formulas[ours], row[2])
			}
		}
	}
}

// Whatever is compared has a section, and each section its sources and the day they were read.
func TestEveryComparisonNamesItsSources(t *testing.T) {
	page := read(t, "docs", "why-not.md")
	_, table, _ := strings.Cut(page, "## At a glance")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| \[[^]]+\]\(#([\w-]+)\) \|`).FindAllStringSubmatch(table, -1)
	if len(rows) < 10 {
		t.Errorf("%d rows, want 10 at least", len(rows))
	}
	sections := map[string]string{}
	for _, s := range strings.Split(page, "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[anchor(title)] = text
	}
	sources := regexp.MustCompile(`(?m)^Sources, read 20\d\d-\d\d-\d\d: \[[^]]+\]\(https://`)
	for _, row := range append(rows, []string{"", "others"}) {
		text := sections[row[1]]
		if !sources.MatchString(text) {
			t.Errorf("#%s names no sources with the day on which they were read", row[1])
		}
		if row[1] == "others" {
			continue
		}
		for _, part := range []string{"**Better**", "**Lacks**", "instead** "} {
			if !strings.Contains(text, part) {
				t.Errorf("#%s does not say %s", row[1], part)
			}
		}
	}
}
