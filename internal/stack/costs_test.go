//go:build full

package stack_test

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// costRow reads "| what | formula | of what | 1.23 |".
var costRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| [^|]+ \| ([0-9.]+) \|$`)

var costSum = regexp.MustCompile(`(?m)^\| \*\*sum\*\* \| \| \| \*\*([0-9.]+)\*\* \|$`)

// The worked example adds up, and counts what the stack has.
func TestTheCostsAddUp(t *testing.T) {
	_, page, _ := strings.Cut(read(t, "docs", "deploy.md"), "## Costs")
	example, ways, ok := strings.Cut(page, "| **sum** |")
	total := costSum.FindStringSubmatch(page)
	if !ok || total == nil {
		t.Fatal("no sum")
	}
	sum, rows := 0.0, map[string]string{}
	for part, text := range []string{example, ways} {
		for _, row := range costRow.FindAllStringSubmatch(text, -1) {
			what, formula, amount := row[1], row[2], row[3]
			rows[what] = formula
			cents := max(0, math.Ceil(100*evaluate(t, formula)-1e-6)) // never a negative zero
			if got := fmt.Sprintf("%.2f", cents/100); got != amount {
				t.Errorf("%s: %s is %s, the page says %s", what, formula, got, amount)
			}
			if part == 0 {
				sum += cents / 100
			}
		}
	}
	if got := fmt.Sprintf("%.2f", sum); got != total[1] {
		t.Errorf("the sum is %s, the page says %s", got, total[1])
	}
	if len(rows) != 38 {
		t.Errorf("%d rows with formulas, want 38", len(rows))
	}

	// The ways in cost what their formulas say, wherever the page names it.
	_, ways, _ = strings.Cut(read(t, "docs", "deploy.md"), "### Which way for which caller")
	ways, _, _ = strings.Cut(ways, "\n\n[Costs]")
	formulaOf := map[string]string{
		"`POST /v1/messages`": "`POST`", "`POST` with `Prefer: respond-async`": "`POST`, accepted",
		"`POST` with `send_after`, and `DELETE /v1/deliveries` when it is read": "`POST`, accepted",
		"SQS, `SendMessageBatch` of ten":                                        "SQS, batches of ten", "SQS, `SendMessage`": "SQS, one by one",
		"direct invoke": "direct invoke", "asynchronous invoke": "direct invoke",
	}
	for _, row := range regexp.MustCompile(`(?m)^\| [^|]+ \| ([^|]+) \| [^|]+ \| ([0-9.]+) \|$`).FindAllStringSubmatch(ways, -1) {
		formula := rows[formulaOf[row[1]]]
		if formula == "" {
			t.Errorf("no row of the costs is about %s", row[1])
			continue
		}
		if got := fmt.Sprintf("%.2f", math.Ceil(100*evaluate(t, formula)-1e-6)/100); got != row[2] {
			t.Errorf("%s: %s is %s, the page says %s", row[1], formula, got, row[2])
		}
		delete(formulaOf, row[1])
	}
	if len(formulaOf) > 0 {
		t.Errorf("the page says nothing of %v", sorted(formulaOf))
	}

	// A month has 30 days here.
	for _, what := range []string{"ElastiCache Serverless (Valkey)", "NAT gateway", "or interface endpoints"} {
		if !strings.Contains(rows[what], "720 × ") {
			t.Errorf("%s costs %s, not for 720 hours", what, rows[what])
		}
	}
	// The template buys nothing that the page does not count.
	if s := resolve(t, createdCache); at(s.Resources["ApiStage"].Properties, "DefaultRouteSettings", "DetailedMetricsEnabled") != false {
		t.Error("metrics by route cost, and are in no row")
	}

	byService, bySink, success := 0, 0, successes(t)
	for _, m := range tableRow.FindAllStringSubmatch(read(t, "docs", "metrics.md"), -1) {
		for set := range strings.SplitSeq(strings.ReplaceAll(m[3], "`", ""), ";") {
			switch strings.TrimSpace(set) {
			case "Service":
				byService++
			case "Service, Sink":
				bySink++
			}
		}
	}
	failing := bySink - success
	if want := fmt.Sprintf("%d × 0.30 + 1 × %d × 0.30 + ", byService, failing); !strings.HasPrefix(rows["metrics"], want) {
		t.Errorf("metrics cost %s; there are %s...", rows["metrics"], want)
	}
	// One sink in ten fails. What a sink that is well has is checked where the functions run.
	for _, sinks := range []int{10, 50, 500} {
		down := sinks / 10
		for choice, want := range map[string]string{
			"all":     fmt.Sprintf("%d × 5 × 0.30 + %d × %d × 0.30", sinks-down, down, bySink),
			"failing": fmt.Sprintf("%d × %d × 0.30", down, failing), "top:10": fmt.Sprintf("%d × %d × 0.30", min(down, 10), failing), "none": "0 × 0.30",
		} {
			if got := rows[fmt.Sprintf("%d sinks, `%s`", sinks, choice)]; got != want {
				t.Errorf("%d sinks, %s cost %q, want %s", sinks, choice, got, want)
			}
		}
	}
	if _, says, _ := strings.Cut(page, "The worst hour"); !strings.Contains(says, fmt.Sprintf("500 × %d × 0.30 / 720, or %.2f.", failing, 500*float64(failing)*0.30/720)) {
		t.Error("the worst hour of failing is another")
	}
	s := resolve(t, createdCache)
	if want := fmt.Sprintf("%d × 0.10 + %d × 3.00", len(s.alarmMetrics()), len(s.of("AWS::CloudWatch::Dashboard"))); rows["alarms, dashboard"] != want {
		t.Errorf("alarms and dashboards cost %s, want %s", rows["alarms, dashboard"], want)
	}
}

// successes counts the metrics that docs/metrics.md calls so; internal/observe holds that against the code.
func successes(t *testing.T) int {
	t.Helper()
	_, list, ok := strings.Cut(read(t, "docs", "metrics.md"), "**Successes** are ")
	list, _, _ = strings.Cut(list, ".")
	if !ok {
		t.Fatal("docs/metrics.md does not name the successes")
	}
	return strings.Count(list, "`") / 2
}

// evaluate computes sums of products.
func evaluate(t *testing.T, formula string) float64 {
	t.Helper()
	sum := 0.0
	for term := range strings.SplitSeq(formula, "+") {
		product := 1.0
		for factor := range strings.SplitSeq(term, "×") {
			f, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(factor), ",", ""), 64)
			if err != nil {
				t.Fatalf("%s: %v", formula, err)
			}
			product *= f
		}
		sum += product
	}
	return sum
}
