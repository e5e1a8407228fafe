package mcp

import (
	"encoding/json"
	"maps"
	"slices"

	"backstop/client"
)

type sinkView struct {
	Name        string         `json:"name"`
	Kind        string         `json:"kind,omitempty"`
	State       string         `json:"state,omitempty" jsonschema:"ok, failing, open (the receiver is down), held (it asked to wait), paused (by an operator) or misconfigured"`
	Since       string         `json:"since,omitempty" jsonschema:"since when the state holds"`
	Paused      bool           `json:"paused"`
	Depth       int64          `json:"depth" jsonschema:"dead letters in its queue; -1: not known"`
	Due         int64          `json:"due" jsonschema:"of these, the schedule replays next; -1: not known"`
	Waiting     int64          `json:"waiting" jsonschema:"of the due ones, waiting for the receiver; -1: not known"`
	Parked      int64          `json:"parked" jsonschema:"replayed too often: an operator decides"`
	OldestAt    string         `json:"oldest_at,omitempty"`
	NextProbe   string         `json:"next_probe,omitempty" jsonschema:"when an attempt may find out whether the receiver is back"`
	LastError   *Untrusted     `json:"last_error,omitempty"`
	LastErrorAt string         `json:"last_error_at,omitempty"`
	ConfigError *Untrusted     `json:"config_error,omitempty" jsonschema:"what is wrong with its configuration: its sends are dead-lettered"`
	Receivers   []receiverView `json:"receivers,omitempty" jsonschema:"others of its receivers that are not well, the worst first"`
	More        int64          `json:"more_receivers,omitempty" jsonschema:"how many more there are"`
}

type receiverView struct {
	Name      *Untrusted `json:"name"`
	State     string     `json:"state"`
	Since     string     `json:"since,omitempty"`
	NextProbe string     `json:"next_probe,omitempty"`
	LastError *Untrusted `json:"last_error,omitempty"`
}

// maxReceivers is how many receivers of a sink are listed.
const maxReceivers = 5

func viewSink(s client.Sink) sinkView {
	v := sinkView{
		Name: s.Name, Kind: s.Kind, State: string(s.State), Since: at(s.Since), Paused: s.Paused, Depth: s.Depth, Due: s.Due, Waiting: s.Waiting,
		Parked: s.Parked, OldestAt: at(s.OldestAt), NextProbe: at(s.NextProbe), LastError: untrusted(s.LastError, maxError), LastErrorAt: at(s.LastErrorAt),
		ConfigError: untrusted(s.ConfigError, maxError), More: s.MoreReceivers,
	}
	receivers, more := first(s.Receivers, maxReceivers)
	v.More += int64(more)
	for _, r := range receivers {
		v.Receivers = append(v.Receivers, receiverView{untrusted(r.Name, maxSubject), string(r.State), at(r.Since), at(r.NextProbe), untrusted(r.LastError, maxError)})
	}
	return v
}

type groupView struct {
	ID        string     `json:"id" jsonschema:"for the parameter group of other tools"`
	Sink      string     `json:"sink"`
	Reason    string     `json:"reason"`
	Cause     *Untrusted `json:"cause" jsonschema:"the error's text with its variable parts masked"`
	Count     int64      `json:"count" jsonschema:"dead letters that are there now"`
	FirstSeen string     `json:"first_seen,omitempty" jsonschema:"when the first came, those that are gone included"`
	LastSeen  string     `json:"last_seen,omitempty"`
	LastHour  int64      `json:"last_hour" jsonschema:"how many came in the last hour: compare it with last_day for the trend"`
	LastDay   int64      `json:"last_day"`
	Sample    string     `json:"sample,omitempty" jsonschema:"id of the newest dead letter, which may be gone"`
	Note      *noteView  `json:"note,omitempty"`
}

type noteView struct {
	Note         *Untrusted `json:"note,omitempty"`
	Acknowledged bool       `json:"acknowledged" jsonschema:"somebody knows, and cares for it"`
	By           *Untrusted `json:"by,omitempty"`
	At           string     `json:"at,omitempty"`
}

func viewGroup(g client.Group) groupView {
	v := groupView{
		ID: g.ID, Sink: g.Sink, Reason: string(g.Reason), Cause: untrusted(g.Fingerprint, maxError), Count: g.Count, FirstSeen: at(g.FirstSeen),
		LastSeen: at(g.LastSeen), LastHour: g.LastHour, LastDay: g.LastDay, Sample: g.Sample,
	}
	if n := g.Note; n != nil {
		v.Note = &noteView{untrusted(n.Note, maxReason), n.Acknowledged, untrusted(n.By, maxSubject), at(n.At)}
	}
	return v
}

type rowView struct {
	ID             string     `json:"id"`
	DeliveryID     *Untrusted `json:"delivery_id,omitempty"`
	Sink           string     `json:"sink"`
	At             string     `json:"at,omitempty" jsonschema:"when it became a dead letter"`
	State          string     `json:"state,omitempty" jsonschema:"what will happen to it: due, scheduled, waiting or parked (an operator decides), replaying, expired, delivered (and kept), unreadable"`
	NextReplayAt   string     `json:"next_replay_at,omitempty"`
	Reason         string     `json:"reason,omitempty"`
	Attempts       int        `json:"attempts"`
	Replays        int        `json:"replays"`
	MayHaveArrived bool       `json:"may_have_arrived" jsonschema:"an attempt was made that nobody answered: a replay may be its second copy"`
	ExpiresAt      string     `json:"expires_at,omitempty"`
	Subject        *Untrusted `json:"subject,omitempty"`
	Preview        *Untrusted `json:"preview,omitempty" jsonschema:"the body's beginning"`
	LastError      *Untrusted `json:"last_error,omitempty"`
}

func viewRow(it client.Item) rowView {
	return rowView{
		ID: it.ID, DeliveryID: untrusted(it.DeliveryID, maxSubject), Sink: it.Sink, At: at(it.At), State: string(it.State), NextReplayAt: at(it.NextReplayAt),
		Reason: string(it.Reason), Attempts: it.Attempts, Replays: it.Replays, MayHaveArrived: it.Unanswered > 0, ExpiresAt: at(it.ExpiresAt),
		Subject: untrusted(it.Message.Subject, maxSubject), Preview: untrusted(it.Message.BodyPreview, maxPreview), LastError: untrusted(it.LastError, maxError),
	}
}

func viewRows(items []client.Item) []rowView {
	out := make([]rowView, 0, len(items))
	for _, it := range items {
		out = append(out, viewRow(it))
	}
	return out
}

type itemView struct {
	rowView
	Recipient     *Untrusted     `json:"recipient,omitempty" jsonschema:"JSON, as the sink takes it"`
	Body          *Untrusted     `json:"body,omitempty"`
	Metadata      []metadataView `json:"metadata,omitempty"`
	MoreMetadata  int            `json:"more_metadata,omitempty"`
	MessageGroup  *Untrusted     `json:"message_group,omitempty"`
	FirstFailedAt string         `json:"first_failed_at,omitempty"`
	NotBefore     string         `json:"not_before,omitempty"`
	Origin        string         `json:"origin,omitempty" jsonschema:"the dead letter whose replay ended in this one"`
	History       []replayView   `json:"history,omitempty" jsonschema:"its last replays, oldest first"`
	DecodeError   *Untrusted     `json:"decode_error,omitempty" jsonschema:"why its entry cannot be read; it can be discarded"`
}

type metadataView struct {
	Name  *Untrusted `json:"name"`
	Value *Untrusted `json:"value,omitempty"`
}

type replayView struct {
	At    string     `json:"at,omitempty"`
	Error *Untrusted `json:"error,omitempty" jsonschema:"missing: it was delivered"`
}

func viewItem(it client.Item) itemView {
	v := itemView{
		rowView: viewRow(it), Recipient: untrusted(string(it.Recipient), maxRecipient), Body: untrusted(it.Message.Body, maxBody),
		MessageGroup: untrusted(it.Group, maxSubject), FirstFailedAt: at(it.FirstFailedAt), NotBefore: at(it.NotBefore), Origin: it.Origin,
		DecodeError: untrusted(it.DecodeError, maxError),
	}
	names, more := first(slices.Sorted(maps.Keys(it.Message.Metadata)), maxMetadata)
	v.MoreMetadata = more
	for _, name := range names {
		v.Metadata = append(v.Metadata, metadataView{untrusted(name, maxSubject), untrusted(it.Message.Metadata[name], maxSubject)})
	}
	for _, r := range it.History {
		v.History = append(v.History, replayView{at(r.At), untrusted(r.Error, maxError)})
	}
	return v
}

type operationView struct {
	ID            string           `json:"id"`
	Action        string           `json:"action"`
	Status        string           `json:"status" jsonschema:"queued, running, stopped (a receiver failed too often in a row), or final: completed, canceled, failed"`
	Final         bool             `json:"final" jsonschema:"it is over; ask again until it is, or until it is stopped"`
	Total         int64            `json:"total"`
	TotalComplete bool             `json:"total_complete" jsonschema:"false: total is the least"`
	Settled       int64            `json:"settled" jsonschema:"those that are done with"`
	Delivered     int64            `json:"delivered"`
	Failed        int64            `json:"failed" jsonschema:"sent in vain; they stay in the queue"`
	Discarded     int64            `json:"discarded"`
	Expired       int64            `json:"expired" jsonschema:"not sent: their time was over"`
	Skipped       int64            `json:"skipped" jsonschema:"not touched"`
	Waiting       int64            `json:"waiting" jsonschema:"they may not go now: another replay holds them, or their receiver is left alone"`
	WaitingUntil  string           `json:"waiting_until,omitempty"`
	CreatedAt     string           `json:"created_at,omitempty"`
	FinishedAt    string           `json:"finished_at,omitempty"`
	Filter        *Untrusted       `json:"filter,omitempty" jsonschema:"what was selected, as JSON"`
	Items         int              `json:"items,omitempty" jsonschema:"how many were selected by id"`
	Why           *Untrusted       `json:"why,omitempty"`
	Actor         *Untrusted       `json:"actor,omitempty"`
	Error         *Untrusted       `json:"error,omitempty"`
	Sinks         map[string]int64 `json:"settled_by_sink,omitempty"`
}

func viewOperation(o client.Operation) operationView {
	v := operationView{
		ID: o.ID, Action: string(o.Action), Status: string(o.Status), Final: o.Final(), Total: o.Total, TotalComplete: o.TotalComplete, Settled: o.Settled,
		Delivered: o.Delivered, Failed: o.Failed, Discarded: o.Discarded, Expired: o.Expired, Skipped: o.Skipped, Waiting: o.Waiting,
		WaitingUntil: at(o.WaitingUntil), CreatedAt: at(o.CreatedAt), FinishedAt: at(o.FinishedAt), Items: len(o.IDs), Why: untrusted(o.Reason, maxReason),
		Actor: untrusted(o.Actor, maxSubject), Error: untrusted(o.Error, maxError),
	}
	if o.Filter != nil {
		b, err := json.Marshal(o.Filter)
		if err == nil {
			v.Filter = untrusted(string(b), maxError)
		}
	}
	names, _ := first(slices.Sorted(maps.Keys(o.Sinks)), maxSinks)
	for _, name := range names {
		if v.Sinks == nil {
			v.Sinks = map[string]int64{}
		}
		v.Sinks[name] = o.Sinks[name].Settled
	}
	return v
}
