// Package localqueue is Amazon SQS on one machine: queues in memory behind SQS' JSON protocol,
// for the local host. The AWS SDK and CLI use them as they use SQS, given the endpoint.
//
// It has the operations that Backstop needs: SendMessage, ReceiveMessage, DeleteMessage,
// ChangeMessageVisibility and their batches, GetQueueAttributes and GetQueueUrl. Delays,
// visibility, receive counts, redrive, limits, and the groups and deduplication of FIFO queues
// are as documented for SQS.
//
// It differs from SQS: a standard queue hands out what waits longest first, without regard
// to groups, and never twice at once; a message stays until it is deleted; queues are made by
// the program alone; nothing is signed or authorized; and when MaxBytes are taken, sending is
// answered with RequestThrottled, which clients try again. All is lost when the process ends.
package localqueue

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Config is one queue.
type Config struct {
	// Name is the queue's: letters, digits, - and _, at most 80 with the suffix .fifo of a FIFO
	// queue. Required.
	Name string
	// Visibility is how long a received message is hidden, where the receiver asks for nothing
	// else, in whole seconds. Zero: 30 s.
	Visibility time.Duration
	// Redrive is the name of the queue that gets a message at the receive after MaxReceives
	// ones. Empty: none. It must be of the same type.
	Redrive     string
	MaxReceives int
}

// MaxBytes bounds the memory of a service: all messages and remembered deduplication ids.
const MaxBytes = 64 << 20

// What is said of an account and a region, as the local host says.
const (
	account = "123456789012"
	region  = "us-east-1"
)

// Service is an endpoint with its queues, an http.Handler. It is safe for concurrent use. It
// trusts whoever reaches it: put package loopback's guard in front.
type Service struct {
	mu     sync.Mutex
	queues map[string]*queue
	room   *room
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// New makes a service with queues. All faults of the configuration are reported together.
func New(configs ...Config) (*Service, error) {
	s := &Service{queues: map[string]*queue{}, room: &room{left: MaxBytes}}
	var errs []error
	fail := func(c Config, format string, args ...any) {
		errs = append(errs, fmt.Errorf("queue %.100q: %s", c.Name, fmt.Sprintf(format, args...)))
	}
	for _, c := range configs {
		switch base := strings.TrimSuffix(c.Name, fifoSuffix); {
		case len(c.Name) > 80 || !queueName.MatchString(base):
			fail(c, "want letters, digits, - and _, at most 80")
			continue
		case s.queues[c.Name] != nil:
			fail(c, "given twice")
			continue
		case c.Visibility < 0 || c.Visibility > maxVisibility || c.Visibility%time.Second != 0:
			fail(c, "visibility %v is not whole seconds up to %v", c.Visibility, maxVisibility)
		case c.MaxReceives < 0:
			fail(c, "MaxReceives %d is negative", c.MaxReceives)
		case (c.Redrive == "") != (c.MaxReceives == 0):
			fail(c, "Redrive and MaxReceives go together")
		}
		s.queues[c.Name] = newQueue(c, s.room)
	}
	for _, c := range configs {
		if q := s.queues[c.Name]; q != nil && c.Redrive != "" {
			if q.redrive = s.queues[c.Redrive]; q.redrive == nil || q.redrive == q || q.redrive.fifo != q.fifo {
				fail(c, "redrive queue %.100q: want another one, of the same type", c.Redrive)
			}
		}
	}
	return s, errors.Join(errs...)
}

// URL returns the URL of a queue at an endpoint, which has no slash at its end.
func URL(endpoint, name string) string { return endpoint + "/" + account + "/" + name }

// What happens to a message.
type What int

// What may happen: it is sent, received, or deleted. One that is moved to the redrive queue is not told of.
const (
	Sent What = iota
	Received
	Deleted
)

// Event is something that happened to a message of a queue, before whoever did it has the answer.
type Event struct {
	Queue string
	What  What
	Body  string
}

// Watch has f told of everything that happens from now on, in its order. f must not use the service.
func (s *Service) Watch(f func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.watch = f
	}
}

// Waiting returns how many messages a queue has, those that are delayed or received included;
// 0 for an unknown one.
func (s *Service) Waiting(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return 0
	}
	return q.messages.Len()
}

// find returns the queue that a URL names by its last two parts.
func (s *Service) find(url string) (*queue, error) {
	if url == "" {
		return nil, missing("QueueUrl")
	}
	rest, name := cutLast(url)
	if _, owner := cutLast(rest); owner != account || s.queues[name] == nil {
		return nil, errNoQueue
	}
	return s.queues[name], nil
}

func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
