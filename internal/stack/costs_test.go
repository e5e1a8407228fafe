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
			cents := math.Ceil(100*evaluate(t, formula) - 1e-6)
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
	if len(rows) != 15 {
		t.Errorf("%d rows with formulas, want 15", len(rows))
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

	byService, bySink := 0, 0
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
	if want := fmt.Sprintf("%d × 0.30 + 5 × %d × 0.30 + ", byService, bySink); !strings.HasPrefix(rows["metrics"], want) {
		t.Errorf("metrics cost %s; there are %s...", rows["metrics"], want)
	}
	s := resolve(t, createdCache)
	if want := fmt.Sprintf("%d × 0.10 + %d × 3.00", len(s.alarmMetrics()), len(s.of("AWS::CloudWatch::Dashboard"))); rows["alarms, dashboard"] != want {
		t.Errorf("alarms and dashboards cost %s, want %s", rows["alarms, dashboard"], want)
	}
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
