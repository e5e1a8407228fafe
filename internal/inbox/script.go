package inbox

// Fault is a way not to answer.
type Fault string

// The faults. The request (or mail) was read and recorded in each.
const (
	Hang  Fault = "hang"  // no answer until the client goes away
	Reset Fault = "reset" // the connection is reset (RST)
	Drop  Fault = "drop"  // the connection is closed without an answer
	Drip  Fault = "drip"  // HTTP only: the status (zero: 200), and a body that comes byte by byte and never ends
)

// Reply is what the receiver or the mail server answers.
type Reply struct {
	// Status is the HTTP status (zero: 200) or the SMTP code (zero: accepted).
	Status int
	// Body is the HTTP body (empty: "ok", which is what Slack answers) or the SMTP
	// text.
	Body string
	// ContentType is the HTTP header Content-Type; empty: what the body looks like.
	ContentType string
	// RetryAfter is the HTTP header Retry-After; empty: none.
	RetryAfter string
	// Wait, unless nil, holds the HTTP answer up until it is closed. The arrival is
	// recorded before.
	Wait <-chan struct{}
	// Fault, when set, comes instead of an answer.
	Fault Fault
}

// Script decides about the n-th request (from 1) since it was set. It may be called
// concurrently.
type Script func(n int) Reply

// Always gives the same reply until the path is healed.
func Always(r Reply) Script { return func(int) Reply { return r } }

// Times gives the reply n times and succeeds from then on.
func Times(n int, r Reply) Script {
	return func(i int) Reply {
		if i <= n {
			return r
		}
		return Reply{}
	}
}

// scripted is a script and the number of its calls.
type scripted struct {
	script Script
	calls  int
}

func (s *scripted) next() Reply {
	if s == nil {
		return Reply{}
	}
	s.calls++
	return s.script(s.calls)
}
