package observe

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Namespace is the CloudWatch namespace of every metric.
const Namespace = "Backstop"

// Metric is a metric's name and its CloudWatch unit.
type Metric struct {
	Name string
	Unit string
}

// The metrics. Each is published under the dimension Service, and those of a sink under Service
// and Sink as SinkMetrics says; those with a reason also under Service and Reason.
var (
	Delivered          = Metric{"Delivered", "Count"}             // deliveries that arrived
	DeadLettered       = Metric{"DeadLettered", "Count"}          // deliveries kept in the DLQ, by reason
	Accepted           = Metric{"Accepted", "Count"}              // deliveries put into the queue, to be made later
	Expired            = Metric{"Expired", "Count"}               // deliveries whose time was over before they arrived
	Canceled           = Metric{"Canceled", "Count"}              // deliveries that a caller took back; repetitions of the call do not count
	HandedBack         = Metric{"HandedBack", "Count"}            // deliveries that the caller still owns, by code
	Duplicate          = Metric{"Duplicate", "Count"}             // deliveries answered from their record
	Attempts           = Metric{"Attempts", "Count"}              // Send calls
	AttemptLatency     = Metric{"AttemptLatency", "Milliseconds"} // mean time of a delivery's attempts
	Unguarded          = Metric{"Unguarded", "Count"}             // deliveries whose idempotency record could not be read or written
	DLQDepth           = Metric{"DLQDepth", "Count"}              // dead letters in a sink
	DLQOldestAge       = Metric{"DLQOldestAge", "Seconds"}        // age of the oldest dead letter
	Trimmed            = Metric{"Trimmed", "Count"}               // dead letters removed by overflow
	Retired            = Metric{"Retired", "Count"}               // dead letters removed because a sink's retention was over
	Spilled            = Metric{"Spilled", "Count"}               // dead letters that the queue did not take and the journal did
	SpillDepth         = Metric{"SpillDepth", "Count"}            // dead letters of a sink that wait in the journal for room in the queue
	Unjournaled        = Metric{"Unjournaled", "Count"}           // dead letters of a sink that the journal has not yet, or not as they are
	Ending             = Metric{"Ending", "Count"}                // dead letters of a sink that are over and that the journal still has
	Healed             = Metric{"Healed", "Count"}                // dead letters that the queue had lost and got back by itself
	Damaged            = Metric{"Damaged", "Count"}               // objects and lines of the journal that cannot be read
	QueueLost          = Metric{"QueueLost", "Count"}             // 1 for a sink whose queue lost more than comes back by itself, else 0
	ReplayDelivered    = Metric{"ReplayDelivered", "Count"}       // dead letters that a replay delivered
	ReplayFailed       = Metric{"ReplayFailed", "Count"}          // replays that failed
	Parked             = Metric{"Parked", "Count"}                // dead letters that a replay parked
	NewCauses          = Metric{"NewCauses", "Count"}             // causes of dead letters that a sink did not have before
	BreakerOpened      = Metric{"BreakerOpened", "Count"}         // receivers that were found to be down, once in the whole system
	Held               = Metric{"Held", "Count"}                  // times that a receiver asked everybody to wait
	Throttled          = Metric{"Throttled", "Count"}             // deliveries and replays that found no slot, or a wait, that fits
	EventsSent         = Metric{"EventsSent", "Count"}            // events of fates that a sink took
	EventsDeadLettered = Metric{"EventsDeadLettered", "Count"}    // events that failed and are dead letters of their own
	EventsPending      = Metric{"EventsPending", "Count"}         // times that an event could be neither: it is sent later
	ReplayRuns         = Metric{"ReplayRuns", "Count"}            // replay runs that finished with a configuration: the schedule's heartbeat
	ReplayersMissing   = Metric{"ReplayersMissing", "Count"}      // replayers that a tick could not start
	ConfigAge          = Metric{"ConfigAge", "Seconds"}           // age of the sink configuration in use
	ConfigMissing      = Metric{"ConfigMissing", "Count"}         // 1 for an invocation that had no sink configuration, else 0
	ColdStarts         = Metric{"ColdStarts", "Count"}            // processes that served their first invocation
	InitTime           = Metric{"InitTime", "Milliseconds"}       // from a process's start to its first invocation
	DeadlineMargin     = Metric{"DeadlineMargin", "Milliseconds"} // time left when an invocation ended
)

// maxValues is the most values that one metric of an EMF line may have.
const maxValues = 100

// Metrics collects metrics until they are flushed. It is safe for concurrent use.
type Metrics struct {
	service  string
	bySink   SinkMetrics
	mu       sync.Mutex
	lines    map[dimensions]map[Metric][]float64
	unlogged map[string]unlogged // by sink
}

// unlogged is what is told of deliveries that have no log line of their own.
type unlogged struct {
	Deliveries int   `json:"deliveries"`
	ElapsedMS  int64 `json:"elapsed_ms"` // of all of them
	LongestMS  int64 `json:"longest_ms"`
}

type dimensions struct{ sink, reason string }

// NewMetrics returns an empty collection for a service, of which bySink is published by sink.
func NewMetrics(service string, bySink SinkMetrics) *Metrics {
	return &Metrics{service: service, bySink: bySink, lines: map[dimensions]map[Metric][]float64{}, unlogged: map[string]unlogged{}}
}

// Add records a value. Counts are summed up, other units keep their values. With an empty
// sink it is of the service alone.
func (m *Metrics) Add(metric Metric, sink string, value float64) {
	m.add(dimensions{sink: sink}, metric, value)
}

// AddReason is Add, and publishes the value by reason as well.
func (m *Metrics) AddReason(metric Metric, sink, reason string, value float64) {
	m.add(dimensions{sink: sink}, metric, value)
	if reason != "" {
		m.add(dimensions{reason: reason}, metric, value)
	}
}

func (m *Metrics) add(d dimensions, metric Metric, value float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := m.lines[d]
	if line == nil {
		line = map[Metric][]float64{}
		m.lines[d] = line
	}
	values := line[metric]
	switch {
	case metric.Unit == "Count" && len(values) > 0:
		values[0] += value
	case len(values) < maxValues:
		line[metric] = append(values, value)
	}
}

// Unlogged notes a delivery that has no log line of its own and is counted by another metric of its
// sink: the line with those says how many there were, and how long they took.
func (m *Metrics) Unlogged(sink string, elapsed time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ms := m.unlogged[sink], elapsed.Milliseconds()
	m.unlogged[sink] = unlogged{u.Deliveries + 1, u.ElapsedMS + ms, max(u.LongestMS, ms)}
}

// Flush writes what was collected as EMF lines and starts anew.
func (m *Metrics) Flush(w io.Writer) error {
	m.mu.Lock()
	lines, unloggedBy := m.lines, m.unlogged
	m.lines, m.unlogged = map[dimensions]map[Metric][]float64{}, map[string]unlogged{}
	m.mu.Unlock()

	now, bySink := time.Now(), m.bySink.of(lines)
	fold(lines, bySink)
	lone, service := loneSink(lines)
	for _, d := range slices.SortedFunc(maps.Keys(lines), func(a, b dimensions) int {
		return cmp.Or(cmp.Compare(a.sink, b.sink), cmp.Compare(a.reason, b.reason))
	}) {
		beside := service
		if d != lone {
			beside = nil
		}
		doc := m.line(now, d, lines[d], bySink, beside)
		if u, ok := unloggedBy[d.sink]; ok && d.reason == "" {
			doc["unlogged"] = u
		}
		b, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// loneSink takes what is of the service alone out of lines where they have one sink, whose line it can be on: most
// invocations serve one sink, and then write one line.
func loneSink(lines map[dimensions]map[Metric][]float64) (sink dimensions, service map[Metric][]float64) {
	service = lines[dimensions{}]
	for d, values := range lines {
		if d.sink == "" {
			continue
		}
		for m := range values {
			if _, both := service[m]; both || sink.sink != "" {
				return dimensions{}, nil
			}
		}
		sink = d
	}
	if sink.sink != "" {
		delete(lines, dimensions{})
	}
	return sink, service
}

// line is one EMF document, with numbers of the service alone beside those of d. "level" makes
// Lambda's JSON log format pass it on. It names its sink and has every number, whatever is published by sink.
func (m *Metrics) line(
	now time.Time, d dimensions, values map[Metric][]float64, bySink func(string, Metric, []float64) bool, service map[Metric][]float64,
) map[string]any {
	type definition struct{ Name, Unit string }
	type directive struct {
		Namespace  string
		Dimensions [][]string
		Metrics    []definition
	}
	doc := map[string]any{"level": "INFO", "timestamp": now.UTC().Format(time.RFC3339Nano), "Service": m.service}
	narrow := directive{Namespace, [][]string{{"Service"}}, nil}
	wide := directive{Namespace, [][]string{{"Service"}, {"Service", "Sink"}}, nil}
	switch {
	case d.reason != "":
		doc["Reason"] = d.reason
		narrow.Dimensions = [][]string{{"Service", "Reason"}}
	case d.sink != "":
		doc["Sink"] = d.sink
	}
	all := maps.Clone(values)
	maps.Copy(all, service)
	for _, metric := range slices.SortedFunc(maps.Keys(all), func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) }) {
		to := &narrow
		if _, ofSink := values[metric]; ofSink && d.sink != "" && bySink(d.sink, metric, values[metric]) {
			to = &wide
		}
		to.Metrics = append(to.Metrics, definition(metric))
		if v := all[metric]; len(v) == 1 {
			doc[metric.Name] = v[0]
		} else {
			doc[metric.Name] = v
		}
	}
	directives := slices.DeleteFunc([]directive{narrow, wide}, func(d directive) bool { return len(d.Metrics) == 0 })
	doc["_aws"] = map[string]any{"Timestamp": now.UnixMilli(), "CloudWatchMetrics": directives}
	return doc
}
