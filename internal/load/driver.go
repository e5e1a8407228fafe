package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"backstop/internal/delay"
	"backstop/internal/lambdahost"
)

// BatchSize is the number of records in a batch of the queue, if there are so many.
const BatchSize = 10

// workers is how many batches are in work at a time.
const workers = 8

// visibility is how long what was handed back waits until it comes again.
const visibility = 500 * time.Millisecond

// Driver sends deliveries until each is acknowledged, or its context ends: those of a queue in
// batches, which come again as long as they are handed back, and those of callers one by one.
type Driver struct {
	// Name begins the lines that tell every ten seconds how far it is.
	Name string
	// N is how many deliveries there are.
	N int
	// Send sends a batch of the queue and returns those of it that come again. It calls Ack for the
	// others.
	Send func(batch []int) (again []int)
	// Call sends one as a caller does, until it is answered or the context ends, and calls Ack then.
	Call func(i int)
	// More is what such a line says beside that. Nil: nothing.
	More func() string

	ctx   context.Context
	queue chan int
	acked atomic.Int64
}

// Ack counts a delivery that is done with.
func (d *Driver) Ack() { d.acked.Add(1) }

// Acked is how many are done with.
func (d *Driver) Acked() int { return int(d.acked.Load()) }

// Progress is the share that is done with.
func (d *Driver) Progress() float64 { return float64(d.acked.Load()) / float64(d.N) }

// Done reports whether all are done with, or time is up.
func (d *Driver) Done() bool { return d.Acked() == d.N || d.ctx.Err() != nil }

// Start says which context ends everything. It comes before everything else.
func (d *Driver) Start(ctx context.Context) {
	d.ctx, d.queue = ctx, make(chan int, d.N)
}

// Run sends what the queue has, and what callers have: each list by a caller of its own.
func (d *Driver) Run(queued []int, called ...[]int) {
	for _, i := range queued {
		d.queue <- i
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(d.poll)
	}
	for _, list := range called {
		wg.Go(func() {
			for _, i := range list {
				d.Call(i)
			}
		})
	}
	stop := make(chan struct{})
	go d.tell(stop)
	wg.Wait()
	close(stop)
}

func (d *Driver) tell(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Second):
			more := ""
			if d.More != nil {
				more = ", " + d.More()
			}
			_, _ = fmt.Fprintf(os.Stdout, "%s: %d of %d acknowledged%s\n", d.Name, d.Acked(), d.N, more)
		}
	}
}

func (d *Driver) poll() {
	for !d.Done() {
		batch := d.take()
		if len(batch) == 0 {
			_ = delay.Sleep(d.ctx, 20*time.Millisecond)
			continue
		}
		for _, i := range d.Send(batch) {
			time.AfterFunc(visibility, func() { d.queue <- i })
		}
	}
}

func (d *Driver) take() (batch []int) {
	for len(batch) < BatchSize {
		select {
		case i := <-d.queue:
			batch = append(batch, i)
		default:
			return batch
		}
	}
	return batch
}

// Batch hands records with these bodies to a queue's function and returns which of them it hands
// back, by their place. ok is false when there was no answer: nobody knows what became of them.
func Batch(ctx context.Context, host *lambdahost.Host, function string, bodies []string) (failed map[int]bool, ok bool) {
	records := make([]string, len(bodies))
	for n, text := range bodies {
		body, err := json.Marshal(text)
		if err != nil {
			return nil, false
		}
		records[n] = fmt.Sprintf(`{"messageId":"%d","body":%s,"attributes":{},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:eu-central-1:1:q"}`, n, body)
	}
	res, err := host.Invoke(ctx, lambdahost.Invocation{Function: function, Payload: []byte(`{"Records":[` + strings.Join(records, ",") + `]}`)})
	var answer struct {
		BatchItemFailures []struct {
			ItemIdentifier int `json:",string"`
		}
	}
	if err != nil || res.FunctionError != "" || json.Unmarshal(res.Payload, &answer) != nil {
		return nil, false
	}
	failed = map[int]bool{}
	for _, f := range answer.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	return failed, true
}
