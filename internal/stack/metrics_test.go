//go:build full

package stack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"backstop/internal/observe"
)

// metric is a metric under one set of dimensions.
type metric struct{ Namespace, Name, Dimensions string }

// emitted are the metrics of a run, with their units.
type emitted map[metric]string

// embedded are the lines of an output that carry metrics.
func embedded(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, `"_aws"`) })
}

// readMetrics reads the metrics of a run as CloudWatch would.
func readMetrics(t *testing.T, lines []string) emitted {
	t.Helper()
	all := emitted{}
	for _, line := range embedded(lines) {
		var root object
		if err := json.Unmarshal([]byte(line), &root); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		directives, _ := at(root, "_aws", "CloudWatchMetrics").(list)
		for _, d := range directives {
			sets, _ := obj(d)["Dimensions"].(list)
			metrics, _ := obj(d)["Metrics"].(list)
			for _, set := range sets {
				for _, m := range metrics {
					k := metric{text(obj(d)["Namespace"]), text(obj(m)["Name"]), dimensions(strs(set))}
					unit := text(obj(m)["Unit"])
					if known, ok := all[k]; ok && known != unit {
						t.Errorf("%v has the units %s and %s", k, known, unit)
					}
					all[k] = unit
				}
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("the run emitted no metrics")
	}
	return all
}

func dimensions(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// checkEMF holds every line against the schema that AWS publishes, and against what its
// specification says in words.
func checkEMF(t *testing.T, lines []string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "emf-schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("emf.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("emf.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range embedded(lines) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(line)))
		if err == nil {
			err = schema.Validate(v)
		}
		if err == nil {
			err = targets(line)
		}
		if err != nil {
			t.Errorf("%s\n%v", line, err)
		}
	}
}

// targets checks what the schema cannot say: the members that a directive names exist,
// dimensions are texts, metrics are numbers or up to 100 of them, and Lambda's JSON log
// format finds the level by which it passes lines on.
func targets(line string) error {
	var root object
	if err := json.Unmarshal([]byte(line), &root); err != nil {
		return err
	}
	if text(root["level"]) != "INFO" {
		return fmt.Errorf("level %v", root["level"])
	}
	directives, _ := at(root, "_aws", "CloudWatchMetrics").(list)
	for _, d := range directives {
		sets, _ := obj(d)["Dimensions"].(list)
		for _, set := range sets {
			for _, name := range strs(set) {
				if v := text(root[name]); v == "" || len(v) > 1024 {
					return fmt.Errorf("dimension %s is %v", name, root[name])
				}
			}
		}
		metrics, _ := obj(d)["Metrics"].(list)
		if len(metrics) > 100 {
			return fmt.Errorf("%d metrics in a directive", len(metrics))
		}
		for _, m := range metrics {
			name := text(obj(m)["Name"])
			values, several := root[name].(list)
			if !several {
				values = list{root[name]}
			}
			if len(values) == 0 || len(values) > 100 {
				return fmt.Errorf("%s has %d values", name, len(values))
			}
			for _, v := range values {
				if _, ok := v.(float64); !ok {
					return fmt.Errorf("%s is %v", name, v)
				}
			}
		}
	}
	return nil
}

// A line of a sink that fails publishes some of its numbers by sink, and the others not.
func TestALineThatIsPublishedInPartBySinkIsValid(t *testing.T) {
	m := observe.NewMetrics("svc", observe.SinkMetrics{})
	m.Add(observe.Delivered, "ops", 1)
	m.AddReason(observe.DeadLettered, "ops", "terminal", 1)
	var out strings.Builder
	if err := m.Flush(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	checkEMF(t, lines)
	got, want := readMetrics(t, lines), emitted{
		{"Backstop", "Delivered", "Service"}: "Count", {"Backstop", "DeadLettered", "Service"}: "Count",
		{"Backstop", "DeadLettered", "Service, Sink"}: "Count", {"Backstop", "DeadLettered", "Reason, Service"}: "Count",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever SinkMetrics is, each alarm has its data.
func TestNoAlarmAsksForASink(t *testing.T) {
	for name, params := range variants {
		for _, n := range resolve(t, params).alarmMetrics() {
			if _, ok := n.dimensions["Service"]; n.namespace == "Backstop" && (!ok || len(n.dimensions) != 1) {
				t.Errorf("%s: %s asks for %s by %v, want by Service alone", name, n.by, n.name, n.dimensions)
			}
		}
	}
}

// tableRow reads "| `Name` | Unit | `A`; `A`, `B` | ... |".
var tableRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| ([^|]+) \\|")

// checkTable compares what was emitted with the table that users read.
func checkTable(t *testing.T, got emitted) {
	t.Helper()
	want := emitted{}
	for _, row := range tableRow.FindAllStringSubmatch(read(t, "docs", "metrics.md"), -1) {
		for set := range strings.SplitSeq(strings.ReplaceAll(row[3], "`", ""), ";") {
			var names []string
			for name := range strings.SplitSeq(set, ",") {
				names = append(names, strings.TrimSpace(name))
			}
			want[metric{"Backstop", row[1], dimensions(names)}] = row[2]
		}
	}
	for k, unit := range got {
		if want[k] != unit {
			t.Errorf("%s by %s in %s is not in docs/metrics.md (unit there: %q)", k.Name, k.Dimensions, unit, want[k])
		}
	}
	for k, unit := range want {
		if _, ok := got[k]; !ok {
			t.Errorf("docs/metrics.md has %s by %s in %s, which nothing emitted", k.Name, k.Dimensions, unit)
		}
	}
}

// Metrics of AWS that the stack uses, with the dimension that they have.
var ofAWS = map[string]string{
	"AWS/SQS ApproximateNumberOfMessagesVisible": "QueueName",
	"AWS/SQS ApproximateNumberOfMessagesDelayed": "QueueName",
	"AWS/SQS ApproximateAgeOfOldestMessage":      "QueueName",
	"AWS/SQS NumberOfMessagesSent":               "QueueName",
	"AWS/Lambda Errors":                          "FunctionName",
	"AWS/Lambda Throttles":                       "FunctionName",
	"AWS/Lambda Duration":                        "FunctionName",
	"AWS/Lambda ConcurrentExecutions":            "FunctionName",
	"AWS/ApiGateway Count":                       "ApiId",
	"AWS/ApiGateway 4xx":                         "ApiId",
	"AWS/ApiGateway 5xx":                         "ApiId",
	"AWS/ElastiCache BytesUsedForCache":          "clusterId",
	"AWS/ElastiCache ElastiCacheProcessingUnits": "clusterId",
	"AWS/ElastiCache CurrConnections":            "clusterId",
	"AWS/ElastiCache ThrottledCmds":              "clusterId",
}

// named is a metric that an alarm or the dashboard uses.
type named struct {
	by              string
	namespace, name string
	dimensions      map[string]string // an empty value: any
}

// checkNamed: an alarm on a metric that nobody emits never rings.
func checkNamed(t *testing.T, got emitted) {
	t.Helper()
	for _, params := range []map[string]string{createdCache, noVpc} {
		s := resolve(t, params)
		names := map[string]bool{}
		for _, id := range []string{"Messages", "Redrive", "AsyncFailures", "TickFailures"} {
			names[text(s.attribute(id, "QueueName"))] = true
		}
		for _, f := range functions {
			names[text(s.attribute(f, "Ref"))] = true
		}
		names[text(s.attribute("Api", "Ref"))] = true
		names[text(s.attribute("Cache", "Ref"))] = params["RedisUrl"] == ""
		uses := append(s.alarmMetrics(), s.dashboardMetrics(t)...)
		if len(uses) < 40 {
			t.Errorf("only %d metrics found", len(uses))
		}
		for _, n := range uses {
			if n.namespace == "Backstop" {
				if _, ok := got[metric{n.namespace, n.name, dimensions(slices.Collect(maps.Keys(n.dimensions)))}]; !ok {
					t.Errorf("%s names %s by %v, which nothing emitted", n.by, n.name, n.dimensions)
				}
				if n.dimensions["Service"] != stackName {
					t.Errorf("%s: service %q", n.by, n.dimensions["Service"])
				}
				continue
			}
			dimension := ofAWS[n.namespace+" "+n.name]
			value, ok := n.dimensions[dimension]
			if dimension == "" || !ok || len(n.dimensions) != 1 {
				t.Errorf("%s names %s %s by %v", n.by, n.namespace, n.name, n.dimensions)
			}
			if !names[value] && (n.namespace != "AWS/ElastiCache" || value != "existing") {
				t.Errorf("%s watches %s, which is none of the stack's", n.by, value)
			}
		}
	}
}

func (s stack) alarmMetrics() []named {
	var out []named
	pairs := func(v any) map[string]string {
		m := map[string]string{}
		l, _ := v.(list)
		for _, d := range l {
			m[text(obj(d)["Name"])] = text(obj(d)["Value"])
		}
		return m
	}
	for id, a := range s.of("AWS::CloudWatch::Alarm") {
		if name := text(a.Properties["MetricName"]); name != "" {
			out = append(out, named{id, text(a.Properties["Namespace"]), name, pairs(a.Properties["Dimensions"])})
		}
		queries, _ := a.Properties["Metrics"].(list)
		for _, q := range queries {
			if m := obj(at(q, "MetricStat", "Metric")); len(m) > 0 {
				out = append(out, named{id, text(m["Namespace"]), text(m["MetricName"]), pairs(m["Dimensions"])})
			}
		}
	}
	return out
}

var search = regexp.MustCompile(`^SEARCH\('\{Backstop,([\w,]+)\} Service="([^"]+)" MetricName="(\w+)"', '\w+', 60\)$`)

func (s stack) dashboardMetrics(t *testing.T) []named {
	t.Helper()
	var body struct {
		Widgets []struct {
			Properties struct {
				Title, Region string
				Metrics       []list
			}
		}
	}
	if err := json.Unmarshal([]byte(text(s.Resources["Dashboard"].Properties["DashboardBody"])), &body); err != nil {
		t.Fatalf("dashboard: %v", err)
	}
	var out []named
	for _, w := range body.Widgets {
		if w.Properties.Region != region {
			t.Errorf("%q shows region %q", w.Properties.Title, w.Properties.Region)
		}
		for _, m := range w.Properties.Metrics {
			n := named{by: "dashboard: " + w.Properties.Title, dimensions: map[string]string{}}
			if e := text(obj(m[0])["expression"]); e != "" {
				found := search.FindStringSubmatch(e)
				if found == nil {
					t.Errorf("%s: %s", n.by, e)
					continue
				}
				for d := range strings.SplitSeq(found[1], ",") {
					n.dimensions[d] = ""
				}
				n.namespace, n.name, n.dimensions["Service"] = "Backstop", found[3], found[2]
			} else {
				n.namespace, n.name = text(m[0]), text(m[1])
				for i := 2; i+1 < len(m); i += 2 {
					n.dimensions[text(m[i])] = text(m[i+1])
				}
			}
			out = append(out, n)
		}
	}
	return out
}

// Each alarm leads to its section of the runbook, and each section has its alarm.
func TestEachAlarmNamesItsSectionOfTheRunbook(t *testing.T) {
	sections := map[string]bool{}
	for line := range strings.Lines(read(t, "docs", "runbook.md")) {
		if h, ok := strings.CutPrefix(line, "### "); ok {
			sections[anchor(h)] = false
		}
	}
	s := resolve(t, createdCache)
	link := regexp.MustCompile(`docs/runbook\.md#([\w-]+)$`)
	for id, a := range s.of("AWS::CloudWatch::Alarm") {
		m := link.FindStringSubmatch(text(a.Properties["AlarmDescription"]))
		if m == nil {
			t.Errorf("%s names no section: %v", id, a.Properties["AlarmDescription"])
			continue
		}
		if used, ok := sections[m[1]]; !ok || used {
			t.Errorf("%s: section %s exists: %v, used by another: %v", id, m[1], ok, used)
		}
		sections[m[1]] = true
	}
	for name, used := range sections {
		if !used {
			t.Errorf("docs/runbook.md: no alarm leads to %s", name)
		}
	}
}

// The runbook says for each alarm what it shows when the thing that it watches never
// existed: the state that missing data, or a filled-in 0, leads to.
func TestTheRunbookSaysWhatEachAlarmShowsWithoutData(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\| \[[^]]+\]\(#([\w-]+)\) \| (\w+) \| (.+) \|$`)
	_, table, _ := strings.Cut(read(t, "docs", "runbook.md"), "## What silence means")
	says := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		says[m[1]] = m[2]
	}
	s := resolve(t, createdCache)
	filled := regexp.MustCompile(`FILL\(\w+, 0\)`)
	for id, a := range s.of("AWS::CloudWatch::Alarm") {
		_, section, _ := strings.Cut(text(a.Properties["AlarmDescription"]), "#")
		want := map[string]string{"breaching": "ALARM", "notBreaching": "OK"}[text(a.Properties["TreatMissingData"])]
		if says[section] != want {
			t.Errorf("%s is %s without data; the runbook says %q", id, want, says[section])
		}
		delete(says, section)
		ids, expression := map[string]bool{}, ""
		for _, q := range array(a.Properties["Metrics"]) {
			if e := text(obj(q)["Expression"]); e != "" {
				expression = e
			} else {
				ids[text(obj(q)["Id"])] = true
			}
		}
		// Of several metrics, one that never existed must not hide the others.
		for name := range ids {
			bare := regexp.MustCompile(`\b` + name + `\b`).FindString(filled.ReplaceAllString(expression, ""))
			if len(ids) > 1 && bare != "" {
				t.Errorf("%s: without %s there is no result, whatever the others say: %s", id, name, expression)
			}
		}
	}
	for section := range says {
		t.Errorf("the runbook speaks of %s, which no alarm names", section)
	}
}

func TestAlarmsNotifyTheTopicAndSayWhatSilenceMeans(t *testing.T) {
	for name, params := range variants {
		s := resolve(t, params)
		alarms := s.of("AWS::CloudWatch::Alarm")
		want := 19
		if params["RedisUrl"] == "" {
			want += 3
		}
		if params["Journal"] != "false" {
			want += 4
		}
		if len(alarms) != want {
			t.Errorf("%s: %d alarms, want %d", name, len(alarms), want)
		}
		for id, a := range alarms {
			if topic := strs(a.Properties["AlarmActions"]); len(topic) != min(1, len(params["AlarmTopicArn"])) {
				t.Errorf("%s: %s notifies %v", name, id, topic)
			}
			silence := "notBreaching"
			if id == "ReplayMissingAlarm" {
				silence = "breaching" // nothing at all is what it is about
			}
			if a.Properties["TreatMissingData"] != silence {
				t.Errorf("%s: without data it is %v, want %s", id, a.Properties["TreatMissingData"], silence)
			}
			queries, _ := a.Properties["Metrics"].(list)
			results := 0
			for _, q := range queries {
				if obj(q)["ReturnData"] == true {
					results++
				}
			}
			if len(queries) > 0 && results != 1 {
				t.Errorf("%s has %d results, want one", id, results)
			}
		}
	}
}
