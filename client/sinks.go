package client

import (
	"context"
	"time"
)

// Sinks are all sinks that are configured or have dead letters.
type Sinks struct {
	Raw
	Sinks            []Sink    `json:"sinks"`
	ConfigAgeSeconds int64     `json:"config_age_seconds"` // -1: no configuration
	ConfigError      string    `json:"config_error"`
	Journal          bool      `json:"journal"` // a journal of dead letters stands beside the queue
	Version          string    `json:"version"` // the function's build: a release, or devel
	Now              time.Time `json:"now"`     // the function's clock
	// ScheduleRanAt is when a run of the schedule ended well last; zero: none that is known.
	ScheduleRanAt time.Time `json:"schedule_ran_at"`
}

// Sink is one sink and its queue.
type Sink struct {
	Raw
	Name             string          `json:"name"`
	Kind             string          `json:"kind"`
	State            SinkState       `json:"state"`        // empty: not known, or not configured
	Configured       bool            `json:"configured"`   // false: there are dead letters, but no configuration
	ConfigError      string          `json:"config_error"` // its sends are dead-lettered
	QueueError       string          `json:"queue_error"`  // why the rest is unknown
	Depth            int64           `json:"depth"`        // -1: unknown
	Due              int64           `json:"due"`          // -1: unknown
	Parked           int64           `json:"parked"`       // replayed too often; an operator decides
	Kept             int64           `json:"kept"`         // delivered and kept on request
	Trimmed          int64           `json:"trimmed"`      // lost to overflow since the sink exists
	Paused           bool            `json:"paused"`
	States           map[State]int64 `json:"states"` // a state without any is missing; may lag for a while
	OldestAt         time.Time       `json:"oldest_at"`
	OldestAgeSeconds int64           `json:"oldest_age_seconds"`
	// Waiting are those of Due that wait for the receiver, because it is open or held. -1:
	// unknown.
	Waiting int64 `json:"waiting"`
	// ReceiverState is that of the sink's own receiver; Since is of State.
	ReceiverState
	// Receivers are those besides the sink's own that are not well, the worst first, and
	// MoreReceivers how many more there are.
	Receivers     []Receiver `json:"receivers"`
	MoreReceivers int64      `json:"more_receivers"`
	Retired       int64      `json:"retired"` // removed because the sink's retention was over, since the sink exists
	// Spilled dead letters wait in the journal for room in the queue, as of SpilledAsOf. They are not in
	// Depth, nor in lists.
	Spilled     int64     `json:"spilled"`
	SpilledAsOf time.Time `json:"spilled_as_of"`
	// Unjournaled dead letters are in the queue, and the journal has them not yet, or not as they are.
	// Ending ones are over, and the journal has them still. The schedule sees to both.
	Unjournaled int64 `json:"unjournaled"`
	Ending      int64 `json:"ending"`
	// QueueLostSince is when it was found that the queue had lost more dead letters than come back from
	// the journal by themselves: an operation with ActionRestore brings them back. Zero: nothing is
	// missing.
	QueueLostSince time.Time `json:"queue_lost_since"`
}

// ReceiverState is what is known of a receiver. A time that nobody knows is zero.
type ReceiverState struct {
	Since time.Time `json:"since"`
	// NextProbe is when an attempt may find out whether the receiver is back. Zero while it is
	// open: it answers again, and gets more step by step.
	NextProbe   time.Time `json:"next_probe"`
	LastError   string    `json:"last_error"`
	LastErrorAt time.Time `json:"last_error_at"`
	// LastSuccessAt is noted while the receiver fails only.
	LastSuccessAt time.Time `json:"last_success_at"`
}

// Receiver is one receiver of a sink that has several.
type Receiver struct {
	Name  string    `json:"name"`  // "rest" stands for all beyond the first 1,000
	State SinkState `json:"state"` // SinkFailing, SinkOpen or SinkHeld
	ReceiverState
}

// Sinks lists the sinks, sorted by name. One whose configuration is wrong says so.
func (c *Client) Sinks(ctx context.Context) (s Sinks, err error) {
	_, err = c.call(ctx, get("sinks"), &s)
	return s, err
}

// PauseSink stops a sink: sends go straight to the dead-letter queue, and the schedule leaves it
// alone. An operator's replay still sends. Pausing a paused sink changes nothing.
func (c *Client) PauseSink(ctx context.Context, name string) (Sink, error) {
	return c.toggle(ctx, name, "pause")
}

// ResumeSink ends a pause and lifts what holds back the sink's receivers: the schedule replays
// what is due from its next tick on, and the first delivery to a receiver that was down is the
// probe. After an error the sink may be resumed in part; call it again.
func (c *Client) ResumeSink(ctx context.Context, name string) (Sink, error) {
	return c.toggle(ctx, name, "resume")
}

func (c *Client) toggle(ctx context.Context, name, how string) (s Sink, err error) {
	r := post("sinks", name, how)
	r.about = func() bool { return s.Name == name }
	_, err = c.call(ctx, r, &s)
	return s, err
}

// Document returns the API's own description, OpenAPI 3.1 as YAML.
func (c *Client) Document(ctx context.Context) ([]byte, error) {
	_, b, err := c.send(ctx, get("openapi.yaml"))
	return b, err
}
