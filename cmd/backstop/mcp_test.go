package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"backstop/internal/incident"
)

// agent is a script that knows tools by their schemas, and the world by their results.
type agent struct {
	*sdk.ClientSession
	tools map[string]*sdk.Tool
}

// newAgent starts `backstop mcp` as an agent's program does: a process, on its input and output.
func newAgent(t *testing.T, args ...string) *agent {
	t.Helper()
	cmd := commandContext(context.WithoutCancel(t.Context()), append([]string{"mcp"}, args...)...)
	var logs bytes.Buffer
	cmd.Stderr = &logs
	s, err := sdk.NewClient(&sdk.Implementation{Name: "script", Version: "1"}, nil).Connect(t.Context(), &sdk.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, logs.String())
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("mcp ended with %v\n%s", err, logs.String())
		}
	})
	a := &agent{s, map[string]*sdk.Tool{}}
	for tool, err := range s.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		a.tools[tool.Name] = tool
	}
	return a
}

// call calls a tool with fields that its schema has, and reads its structured result into out.
func (a *agent) call(t *testing.T, name string, args map[string]any, out any) (problem string) {
	t.Helper()
	tool := a.tools[name]
	if tool == nil {
		t.Fatalf("there is no tool %s", name)
	}
	b, err := json.Marshal(tool.InputSchema)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	for field := range args {
		if schema.Properties[field] == nil {
			t.Fatalf("the schema of %s has no %s", name, field)
		}
	}
	res, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if res.IsError {
		text, _ := res.Content[0].(*sdk.TextContent)
		return text.Text
	}
	if b, err = json.Marshal(res.StructuredContent); err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// must is call for what has to succeed.
func (a *agent) must(t *testing.T, name string, args map[string]any, out any) {
	t.Helper()
	if problem := a.call(t, name, args, out); problem != "" {
		t.Fatalf("%s %v: %s", name, args, problem)
	}
}

type (
	agentOperation struct {
		ID, Status               string
		Final                    bool
		Total, Delivered, Failed int64
	}
	agentPreview struct {
		What, Token string
		Count       int64
		Groups      []struct{ Count int64 }
		Sample      []struct{ ID string }
	}
	agentConfirmed struct {
		Repeated  bool
		Operation agentOperation
	}
)

// The operator's night, by an agent over the real program and the real functions: what has three causes is
// repaired with schemas and results alone, and nothing is sent twice.
func TestAnAgentRepairsTheIncidentWithoutDoublingAMessage(t *testing.T) {
	in := incident.Start(t, 1000)
	dev := startDev(t, "--sinks", in.Sinks)
	t.Setenv("BACKSTOP_API", dev.API)
	if err := in.Strike(t.Context(), dev.Invoke); err != nil {
		t.Fatal(err)
	}

	reader := newAgent(t)
	for name := range reader.tools {
		if strings.HasPrefix(name, "preview") || name == "confirm" {
			t.Errorf("the role read has %s", name)
		}
	}
	a := newAgent(t, "--role", "operate")
	var sinks struct{ Sinks []struct{ Name string } }
	a.must(t, "sinks", nil, &sinks)
	var causes struct {
		Groups []struct {
			ID, Sink  string
			Count     int64
			LastHour  int64  `json:"last_hour"`
			FirstSeen string `json:"first_seen"`
			Cause     struct {
				Untrusted bool
				Text      string
			}
		}
	}
	a.must(t, "groups", nil, &causes)
	if len(causes.Groups) != len(incident.Causes) || len(sinks.Sinks) < 2 {
		t.Fatalf("groups: %+v, sinks: %+v", causes, sinks)
	}
	for i, want := range incident.Causes {
		g := causes.Groups[i]
		if g.Count != int64(want.Count) || g.Sink != want.Sink || !strings.Contains(g.Cause.Text, want.Error) || !g.Cause.Untrusted || g.LastHour != g.Count || g.FirstSeen == "" {
			t.Errorf("group %d: %+v, want %+v", i, g, want)
		}
	}
	var chart struct{ Count int64 }
	a.must(t, "histogram", map[string]any{"by": "group"}, &chart)
	if chart.Count != incident.Total {
		t.Errorf("the histogram has %d", chart.Count)
	}
	var items struct {
		Items []struct{ ID string }
	}
	a.must(t, "items", map[string]any{"group": causes.Groups[2].ID, "limit": 1}, &items)

	// Stop the bleeding: from here on, the schedule works on operations only, and what was seen stays there.
	for _, sink := range []string{"orders", "alerts"} {
		var p agentPreview
		a.must(t, "preview_pause", map[string]any{"sink": sink}, &p)
		a.must(t, "confirm", map[string]any{"token": p.Token, "reason": "INC-42: it is down"}, &agentConfirmed{})
	}

	// One first: was it repaired? A stale preview begins nothing.
	in.Heal()
	tick(t, dev.Invoke)
	one := map[string]any{"item": items.Items[0].ID}
	var first, stale agentPreview
	a.must(t, "preview_replay", one, &first)
	a.must(t, "preview_replay", map[string]any{"group": causes.Groups[2].ID}, &stale)
	if first.Count != 1 || stale.Count != int64(incident.Busy.Count) || len(stale.Groups) != 1 || len(stale.Sample) == 0 || len(in.Arrived()) != 0 {
		t.Errorf("previews: %+v, %+v, and %d arrived", first, stale, len(in.Arrived()))
	}
	a.finish(t, first, 1)
	var c agentConfirmed
	if problem := a.call(t, "confirm", map[string]any{"token": stale.Token, "reason": "INC-42"}, &c); !strings.HasPrefix(problem, "PREVIEW_STALE (HTTP 409)") {
		t.Errorf("one of them is delivered by now: %q %+v", problem, c)
	}
	if n := len(in.Arrived()); n != 1 {
		t.Errorf("%d arrived, want 1", n)
	}

	// Then the causes whose receiver is back, and the other is given up.
	for i, tool := range []string{"preview_replay", "preview_discard", "preview_replay"} {
		var p agentPreview
		a.must(t, tool, map[string]any{"group": causes.Groups[i].ID}, &p)
		want := int64(incident.Causes[i].Count)
		if i == 2 {
			want--
		}
		a.finish(t, p, want)
	}
	var left struct{ Sinks map[string]int64 }
	a.must(t, "count", nil, &left)
	if left.Sinks["orders"]+left.Sinks["alerts"] != 0 {
		t.Errorf("left: %v", left)
	}
	arrived := in.Arrived()
	for _, cause := range []incident.Cause{incident.Down, incident.Busy} {
		for n := range cause.Count {
			if id := fmt.Sprintf("%s-%04d", cause.Name, n+1); arrived[id] != 1 {
				t.Errorf("%s arrived %d times, want once", id, arrived[id])
			}
		}
	}
	if want := incident.Down.Count + incident.Busy.Count; len(arrived) != want {
		t.Errorf("%d deliveries arrived, want %d", len(arrived), want)
	}
}

// finish confirms a preview, twice, and waits until its operation is over.
func (a *agent) finish(t *testing.T, p agentPreview, want int64) {
	t.Helper()
	var c, again agentConfirmed
	args := map[string]any{"token": p.Token, "reason": "INC-42: the receiver is back"}
	a.must(t, "confirm", args, &c)
	a.must(t, "confirm", args, &again)
	if p.Count != want || c.Operation.Total != want || c.Repeated || !again.Repeated || again.Operation.ID != c.Operation.ID {
		t.Fatalf("preview %+v, confirmed %+v, again %+v, want %d", p, c, again, want)
	}
	op := c.Operation
	for t.Context().Err() == nil && !op.Final && op.Status != "stopped" {
		a.must(t, "operation", map[string]any{"id": op.ID}, &op)
	}
	if op.Status != "completed" || op.Failed != 0 {
		t.Fatalf("operation: %+v", op)
	}
}

func TestMCPSaysWhatIsWrongWithItsFlags(t *testing.T) {
	run(t, "mcp", "--role", "admin").want(t, exitUsage, "", `--role: want read or operate, got "admin"`)
	run(t, "mcp", "--approve").want(t, exitUsage, "", "--approve is for --role operate")
	run(t, "mcp", "-o", "json").want(t, exitUsage, "", "unknown shorthand flag")
	run(t, "mcp").want(t, 0, "", "") // its input is at its end
}
