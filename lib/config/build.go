package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"backstop/lib/delivery/fate"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// digest identifies a configuration without keeping it.
type digest [sha256.Size]byte

func digestOf(kind string, raw map[string]any) digest {
	b, err := json.Marshal([]any{kind, raw})
	if err != nil {
		panic(err) // the decoder makes only what JSON can hold
	}
	return sha256.Sum256(b)
}

var (
	commonKeys = slices.Sorted(slices.Values(append([]string{"events", "fifo", "kind", "max_age", "on_ambiguous", "replay", "retention", "retry", "shards"}, flowKeys...)))
	flowKeys   = []string{"breaker", "concurrency", "max_hold", "rate"}
)

// build makes the sink of one decoded block. prev is the sink of that name in the
// previous snapshot, nil for none: sinks that did not change are taken over from it.
func (d *decoder) build(raw map[string]any, prev *Sink) *Sink {
	s := &Sink{Name: d.sink, block: digestOf("", raw)}
	if prev != nil && (prev.Err != nil || len(d.findings) > 0) {
		prev = nil
	}
	if prev != nil && prev.block == s.block {
		return prev
	}

	var keys RetryKeys
	d.section(raw, "retry", &keys)
	var err error
	s.Retry, err = keys.config()
	d.reportIn("retry", err)
	s.Replay = d.replay(raw)
	s.Retry.OnAmbiguous = d.onAmbiguous(raw)
	s.Flow = d.flow(raw)
	s.FIFO = d.fifo(raw)
	s.MaxAge = d.maxAge(raw)
	s.Retention = d.retention(raw)
	s.Shards = d.shards(raw)
	s.events = d.events(raw)

	if s.Kind = d.kind(raw); s.Kind != "" {
		kindKeys := map[string]any{}
		for key, value := range raw {
			if !slices.Contains(commonKeys, key) && value != nil {
				kindKeys[key] = value
			}
		}
		s.kindBlock = digestOf(s.Kind, kindKeys)
		if prev != nil && prev.kindBlock == s.kindBlock {
			s.Sink = prev.Sink
		} else {
			s.Sink, err = buildSink(s.Kind, s.Name, kindKeys)
			d.reportNew(err)
		}
	}
	d.placeholders("", raw)
	if len(d.findings) > 0 {
		s.Sink, s.Err = nil, d.invalid()
		return s
	}
	for _, a := range sinks.Advice(s.Sink) {
		key := d.shown(a.Key)
		if a.Placeholder {
			d.placeholder(key, d.secrets.clean(a.Msg)+a.Hint)
			continue
		}
		d.note(d.position(key), key, d.secrets.clean(a.Msg)+a.Hint)
	}
	return s
}

func (d *decoder) invalid() error {
	return &fault.Error{
		Code: fault.CodeSinkConfigInvalid, Msg: fmt.Sprintf("sink %q", d.sink),
		Cause: &InvalidError{Findings: slices.Clone(d.findings)},
	}
}

// buildSink calls the kind's factory. A factory that panics spoils its own sink only.
func buildSink(kind, name string, raw map[string]any) (s sinks.Sink, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("the factory of kind %s panicked (%T)", kind, p)
		}
	}()
	return sinks.BuildSink(kind, name, raw)
}

// section decodes a common block.
func (d *decoder) section(raw map[string]any, key string, into any) {
	value, ok := raw[key]
	if !ok || value == nil {
		return
	}
	block, ok := value.(map[string]any)
	if !ok {
		d.fault(d.position(key), key, "want a mapping of keys to values")
		return
	}
	d.reportIn(key, sinks.DecodeConfig(withoutNil(block), into))
}

// replay reads the block replay into the defaults. A concurrency that nobody chose stays 0: it is no bound of
// all replayers together.
func (d *decoder) replay(raw map[string]any) policy.Policy {
	p := policy.Policy{}.Normalize()
	d.section(raw, "replay", &p)
	block, _ := raw["replay"].(map[string]any)
	if block["max_delay"] == nil {
		p.MaxDelay = max(p.MaxDelay, p.BaseDelay)
	}
	d.reportIn("replay", p.Validate())
	if block["concurrency"] == nil {
		p.Concurrency = 0
	}
	return p
}

// flow reads the keys that say when a receiver is left alone. The breaker may be off: a text, or
// YAML's boolean.
func (d *decoder) flow(raw map[string]any) flow.Policy {
	blocks, off := map[string]any{}, false
	for _, key := range flowKeys {
		value := raw[key]
		off = off || key == "breaker" && (value == "off" || value == false)
		block, isBlock := value.(map[string]any)
		switch {
		case value == nil, key == "breaker" && off:
		case isBlock:
			blocks[key] = withoutNil(block)
		case key == "breaker":
			d.fault(d.position(key), key, "want off, or a mapping of keys to values")
		case key == "rate":
			d.fault(d.position(key), key, "want a mapping of keys to values")
		default:
			blocks[key] = value
		}
	}
	var keys FlowKeys
	d.reportKeys(sinks.DecodeConfig(blocks, &keys))
	p, err := keys.policy()
	d.reportKeys(err)
	p.Breaker.Off = off
	return p
}

func withoutNil(block map[string]any) map[string]any {
	out := make(map[string]any, len(block))
	for key, value := range block {
		if value != nil {
			out[key] = value
		}
	}
	return out
}

func (d *decoder) onAmbiguous(raw map[string]any) retry.AmbiguousPolicy {
	value, ok := raw["on_ambiguous"]
	if !ok || value == nil {
		return ""
	}
	text, _ := value.(string)
	policy := retry.AmbiguousPolicy(text)
	if policy != retry.AmbiguousResend && policy != retry.AmbiguousPark {
		d.fault(d.position("on_ambiguous"), "on_ambiguous", "want resend or park")
		return ""
	}
	return policy
}

func (d *decoder) fifo(raw map[string]any) string {
	value, ok := raw["fifo"]
	if !ok || value == nil {
		return FIFOContinue
	}
	text, _ := value.(string)
	if text != FIFOContinue && text != FIFOHold {
		d.fault(d.position("fifo"), "fifo", "want continue or hold")
		return FIFOContinue
	}
	return text
}

// maxAge reads how old a message may become.
func (d *decoder) maxAge(raw map[string]any) time.Duration {
	value, ok := raw["max_age"]
	if !ok || value == nil {
		return 0
	}
	const want = "want 1s to 8760h"
	var keys AgeKeys
	if sinks.DecodeConfig(map[string]any{"max_age": value}, &keys) != nil { // no duration at all
		d.fault(d.position("max_age"), "max_age", want+", such as 90s or 24h; no unit is longer than h")
		return 0
	}
	if age := *keys.MaxAge; age < time.Second || age > mostAge {
		d.fault(d.position("max_age"), "max_age", want+", got %s", age)
		return 0
	}
	return *keys.MaxAge
}

// retention reads how long dead letters are kept: days, or a duration.
func (d *decoder) retention(raw map[string]any) time.Duration {
	value, ok := raw["retention"]
	if !ok || value == nil {
		return 0
	}
	const want = "want 1h to 3650d"
	text, _ := value.(string)
	kept, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		kept = time.Duration(n) * 24 * time.Hour
	}
	switch {
	case err != nil:
		d.fault(d.position("retention"), "retention", want+", such as 30d or 36h")
		return 0
	case kept < leastRetention || kept > mostRetention:
		d.fault(d.position("retention"), "retention", want+"; to keep dead letters for good, leave it out")
		return 0
	}
	return kept
}

// shards reads over how many queues dead letters are spread.
func (d *decoder) shards(raw map[string]any) int {
	value, ok := raw["shards"]
	if !ok || value == nil {
		return 1
	}
	var keys ShardKeys
	if sinks.DecodeConfig(map[string]any{"shards": value}, &keys) != nil || *keys.Shards < 1 || *keys.Shards > MaxShards {
		d.fault(d.position("shards"), "shards", "want a whole number, 1 to %d", MaxShards)
		return 1
	}
	return *keys.Shards
}

// events reads which fates are told. Whether the sink is there that tells them is known once all
// are (see tellable).
func (d *decoder) events(raw map[string]any) fate.Events {
	var keys EventKeys
	before := len(d.findings)
	d.section(raw, "events", &keys)
	if raw["events"] == nil || len(d.findings) > before {
		return fate.Events{}
	}
	if keys.To == "" {
		d.fault(d.position("events"), "events.to", "is missing: the sink that the events are sent through")
	} else if fault.CheckName(keys.To) != nil {
		d.fault(d.position("events.to"), "events.to", "want the name of a sink")
	}
	if keys.On != nil && len(keys.On) == 0 {
		d.fault(d.position("events.on"), "events.on", "names no fate; to tell all of them, leave it out")
	}
	e := fate.Events{To: keys.To}
	for i, name := range keys.On {
		key := fmt.Sprintf("events.on[%d]", i)
		switch f := fate.Fate(name); {
		case !slices.Contains(fate.All, f):
			d.fault(d.position(key), key, "unknown fate; known are %s", fateNames)
			d.findings[len(d.findings)-1].Suggestion = nearest(name, strings.Split(fateNames, ", "))
		case slices.Contains(e.On, f):
			d.fault(d.position(key), key, "comes twice")
		default:
			e.On = append(e.On, f)
		}
	}
	if len(d.findings) > before {
		return fate.Events{}
	}
	return e
}

var fateNames = func() string {
	names := make([]string, len(fate.All))
	for i, f := range fate.All {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}()

// tellable decides whose events are told, now that all sinks are known, and returns what is wrong
// with the others. None of it keeps a sink from sending: what goes to a sink that is not there
// waits for it as dead letters, and a sink that others' events go through has none itself, so that
// no event makes others. at finds keys by sink.
func tellable(all map[string]*Sink, at map[string]func(key string) Finding) (findings []Finding) {
	ears := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if to := all[name].events.To; to != "" && ears[to] == "" {
			ears[to] = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		effective := s.events
		if effective.To != "" {
			f := at[name]("events.to")
			switch _, known := all[effective.To]; {
			case effective.To == name:
				f.Message = "a sink cannot tell its own fates: name another one"
			case ears[name] != "":
				f = at[name]("events")
				f.Message = fmt.Sprintf("the events of %s go through this sink, so it has none of its own: leave it out", ears[name])
			case !known:
				f.Message = "there is no such sink: its events become dead letters that wait for it"
				f.Suggestion = nearest(effective.To, slices.Collect(maps.Keys(all)))
			}
			if f.Message != "" {
				findings = append(findings, f)
			}
			if ears[name] != "" {
				effective = fate.Events{}
			}
		}
		if s.Events.To != effective.To || !slices.Equal(s.Events.On, effective.On) {
			changed := *s // it may be in use
			changed.Events = effective
			all[name] = &changed
		}
	}
	return findings
}

// kind checks the key kind and returns it, "" when it names no known kind.
func (d *decoder) kind(raw map[string]any) string {
	kinds := sinks.FactoryKinds()
	known := "known kinds: " + strings.Join(kinds, ", ")
	value, ok := raw["kind"]
	if !ok {
		d.missingKind(raw, known)
		return ""
	}
	kind, isText := value.(string)
	switch {
	case value == nil: // the decoder found why
		return ""
	case !isText:
		d.fault(d.position("kind"), "kind", "want a text; %s", known)
		return ""
	case !slices.Contains(kinds, kind):
		d.fault(d.position("kind"), "kind", "unknown kind; %s", known)
		d.findings[len(d.findings)-1].Suggestion = nearest(kind, kinds)
		return ""
	}
	return kind
}

func (d *decoder) missingKind(raw map[string]any, known string) {
	if _, ok := raw["sinks"].(map[string]any); ok {
		d.fault(d.position("sinks"), "sinks", "a document of several sinks must be the source itself, not one of its parts")
		return
	}
	for key := range raw {
		if nearest(key, []string{"kind"}) != "" {
			d.fault(d.position(key), key, "unknown key")
			d.findings[len(d.findings)-1].Suggestion = "kind"
			return
		}
	}
	d.fault(d.root, "kind", "is missing; %s", known)
}

// reportNew records a factory's faults, except for those that follow from recorded ones:
// a key that could not be read looks missing to the factory.
func (d *decoder) reportNew(err error) {
	recorded := map[string]bool{}
	for _, f := range d.findings {
		recorded[firstKey(f.Key)] = true
	}
	for _, fault := range faults(err) {
		if len(recorded) == 0 || fault.Key != "" && !recorded[firstKey(fault.Key)] {
			d.reportFault(fault)
		}
	}
}

// firstKey returns the part of a dotted path that is a key of the block itself.
func firstKey(path string) string {
	if i := strings.IndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return path
}

// reportIn records what is wrong within a common block.
func (d *decoder) reportIn(block string, err error) {
	for _, fault := range faults(err) {
		in := *fault
		in.Key = block + "." + fault.Key
		d.reportFault(&in)
	}
}

// reportKeys records what is wrong with common keys.
func (d *decoder) reportKeys(err error) {
	for _, fault := range faults(err) {
		d.reportFault(fault)
	}
}

func (d *decoder) reportFault(fault *sinks.ConfigError) {
	key := d.shown(fault.Key)
	if key != "" && slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Key == key }) {
		return // what is wrong with a key first makes the rest unsure
	}
	d.fault(d.position(key), key, "%s", d.secrets.clean(fault.Msg)+fault.Hint)
	if fault.Known == nil {
		return
	}
	known, word := fault.Known, key
	switch i := strings.LastIndex(word, "."); {
	case fault.Word != "":
		word = fault.Word
	case i >= 0:
		word = word[i+1:]
	default:
		known = append(slices.Clone(known), commonKeys...)
	}
	d.findings[len(d.findings)-1].Suggestion = nearest(word, known)
}

// shown returns a path that a factory named, as the decoder would show it.
func (d *decoder) shown(path string) string {
	if _, ok := d.at[path]; ok || path == "" || showablePath().MatchString(path) {
		return path
	}
	for prefix := path; prefix != ""; {
		prefix = prefix[:max(0, strings.LastIndexAny(prefix, ".["))]
		if _, ok := d.at[prefix]; ok {
			return prefix + "." + unreadableKey
		}
	}
	return unreadableKey
}
