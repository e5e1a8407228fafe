package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"backstop/lib/fault"

	"go.yaml.in/yaml/v3"
)

// block is the configuration of one sink as found.
type block struct {
	source string
	name   string
	node   *yaml.Node // nil: unreadable, see faults
	faults []Finding
}

// now is the wall clock. A frozen function's monotonic clock may have stood still.
func now() time.Time { return time.Now().Round(0) }

// load reads the source and builds its sinks, taking over from prev (nil for none)
// what did not change. The error means that there is no new configuration at all.
func load(ctx context.Context, source Source, client SSM, prev *Snapshot) (*Snapshot, error) {
	began := now()
	docs, err := source.Documents(ctx, client)
	if err != nil {
		return nil, err
	}
	blocks, findings, err := split(docs)
	if err != nil {
		return nil, err
	}
	values, err := resolve(ctx, client, references(blocks))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}

	all := make(map[string]*Sink, len(blocks))
	var notes []Finding
	nodes := 0
	at := map[string]func(string) Finding{}
	for _, b := range blocks {
		sink, found, where := b.sink(values, prev, &nodes)
		all[b.name], at[b.name] = sink, where
		for _, f := range found {
			if f.Note {
				notes = append(notes, f)
			} else {
				findings = append(findings, f)
			}
		}
	}
	findings = append(findings, tellable(all, at)...)
	snapshot := newSnapshot(began, all, findings, notes)
	if prev != nil && prev.usable() > 0 && snapshot.usable() == 0 {
		return nil, fmt.Errorf("%s: not one sink is valid any more: %w", source, &InvalidError{Findings: findings})
	}
	return snapshot, nil
}

// split finds the sinks in documents. The error, an *InvalidError, is about a document
// of several sinks that cannot be read as such; findings belong to no sink.
func split(docs []Document) (blocks []block, findings []Finding, err error) {
	for _, doc := range docs {
		root, fault := parse(doc)
		if doc.Name != "" {
			b := block{source: doc.Source, name: doc.Name, node: root}
			if fault != nil {
				fault.Sink = b.name
				b.faults = append(b.faults, *fault)
			}
			blocks, findings = add(blocks, findings, b, position{})
			continue
		}
		if fault != nil {
			return nil, nil, &InvalidError{Findings: []Finding{*fault}}
		}
		blocks, findings, err = splitDocument(doc.Source, root)
		if err != nil {
			return nil, nil, err
		}
	}
	return blocks, findings, nil
}

// splitDocument reads "sinks: {name: {...}}".
func splitDocument(source string, root *yaml.Node) (blocks []block, findings []Finding, err error) {
	if n := len(root.Content) / 2; n > maxSinks {
		return nil, nil, &InvalidError{Findings: []Finding{{Source: source, Message: fmt.Sprintf("%d keys; a document of several sinks has only the key sinks", n)}}}
	}
	var list *yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], unalias(root.Content[i+1])
		f := Finding{Source: source, Line: key.Line, Column: key.Column, Key: showKey(key.Value)}
		switch {
		case key.Value == "sinks" && list != nil:
			f.Message = "duplicate key"
		case key.Value == "sinks" && value.Kind == yaml.MappingNode && len(value.Content) > 0:
			list = value
			continue
		case key.Value == "sinks":
			f.Message = "want at least one sink: a mapping of names to blocks"
		default:
			f.Message = "unknown key; a document of several sinks has only the key sinks"
			f.Suggestion = nearest(key.Value, []string{"sinks"})
		}
		findings = append(findings, f)
	}
	if list == nil {
		if len(findings) == 0 {
			findings = []Finding{{Source: source, Message: "no sinks: want a mapping \"sinks\" of names to blocks"}}
		}
		return nil, nil, &InvalidError{Findings: findings}
	}
	if n := len(list.Content) / 2; n > maxSinks {
		return nil, nil, &InvalidError{Findings: []Finding{{Source: source, Line: list.Line, Message: fmt.Sprintf("%d sinks; the most is %d", n, maxSinks)}}}
	}
	for i := 0; i+1 < len(list.Content); i += 2 {
		key, value := list.Content[i], unalias(list.Content[i+1])
		b := block{source: source, name: key.Value, node: value}
		if value.Kind != yaml.MappingNode {
			b.node = nil
			b.faults = []Finding{{
				Source: source, Line: key.Line, Column: key.Column, Sink: showKey(b.name), Message: "want a mapping of keys to values",
			}}
		}
		blocks, findings = add(blocks, findings, b, where(key))
	}
	return blocks, findings, nil
}

func unalias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// add appends b to blocks. A name that no sink can have is a finding of its own, and a
// name that comes twice spoils its sink: neither block can be known to be the meant one.
func add(blocks []block, findings []Finding, b block, at position) ([]block, []Finding) {
	if fault.CheckName(b.name) != nil {
		findings = append(findings, Finding{
			Source: b.source, Line: at.line, Column: at.column, Sink: showKey(b.name),
			Message: "the name does not match [a-z0-9][a-z0-9._-]{0,63}: the sink is left out",
		})
		return blocks, findings
	}
	for i := range blocks {
		if blocks[i].name == b.name {
			blocks[i].faults = append(blocks[i].faults, Finding{
				Source: b.source, Line: at.line, Column: at.column, Sink: b.name,
				Message: fmt.Sprintf("configured twice, first in %s", blocks[i].source),
			})
			return blocks, findings
		}
	}
	return append(blocks, b), findings
}

// references lists the parameters that blocks refer to, each once, sorted.
func references(blocks []block) []string {
	names := map[string]bool{}
	nodes := 0
	for _, b := range blocks {
		if b.node != nil {
			newDecoder(b, &nodes, func(name string) (string, error) {
				names[name] = true
				return "", nil
			}).value(b.node, "", where(b.node), 0)
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// sink builds the block's sink and returns what was found wrong with it, and notes, and where its
// keys are. nodes counts those of all blocks.
func (b block) sink(values map[string]resolved, prev *Snapshot, nodes *int) (*Sink, []Finding, func(key string) Finding) {
	d := newDecoder(b, nodes, func(name string) (string, error) { return values[name].value, values[name].err })
	at := func(key string) Finding {
		p := d.position(key)
		return Finding{Source: b.source, Line: p.line, Column: p.column, Sink: b.name, Key: key}
	}
	d.findings = append(d.findings, b.faults...)
	if b.node == nil {
		return &Sink{Name: b.name, Err: d.invalid()}, d.findings, at
	}
	var before *Sink
	if prev != nil {
		before = prev.sinks[b.name]
	}
	raw, _ := d.value(b.node, "", d.root, 0).(map[string]any)
	s := d.build(raw, before)
	if s.Err != nil && d.unsettled && before != nil && before.Err == nil {
		return before, d.findings, at // the last good one, as for any other outage
	}
	return s, append(d.findings, d.notes...), at
}

// Check reads the source and returns everything that is wrong with it, and after that the
// notes on it; nothing but notes means that it is valid. The error means that it could not be read. client may be nil
// where nothing needs it.
func Check(ctx context.Context, source Source, client SSM) ([]Finding, error) {
	snapshot, err := load(ctx, source, client, nil)
	if err == nil {
		return append(snapshot.findings, snapshot.notes...), nil
	}
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		return invalid.Findings, nil
	}
	return nil, err
}
