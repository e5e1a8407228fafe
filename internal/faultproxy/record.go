package faultproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Call is a command that a server of the Redis protocol got.
type Call struct {
	// Args are the command and its arguments.
	Args []string
	// Reply is what the server answered, as it came. Nil: no answer came, and nobody knows whether the
	// command was executed.
	Reply []byte
	// Lost: the answer came, and its client did not get it.
	Lost bool
	// From and To are when the command was passed on, and when its answer was there, or could not come any more.
	From, To time.Time
}

// Record starts a proxy to a server of the Redis protocol that passes on one client's commands at a time, those of a
// pipeline together, and waits for their answers: told gets them in the order in which the server executes them, and must not use the
// proxy itself. Faults lose the answers to a whole pipeline; Hold and Delay hold all clients up.
func Record(ctx context.Context, target string, seed uint64, told func([]Call)) (*Proxy, error) {
	return start(ctx, target, seed, told)
}

// Alone calls f while no command is under way: what f does with the server by itself has its place in the order of a recording.
func (p *Proxy) Alone(f func()) {
	p.order.Lock()
	defer p.order.Unlock()
	f()
}

// mostPiped is how many commands are passed on together at most.
const mostPiped = 512

// converse passes commands and their answers on until one side ends.
func (p *Proxy) converse(client, server net.Conn) {
	in, out := bufio.NewReaderSize(client, 64<<10), bufio.NewReaderSize(server, 64<<10)
	for {
		calls, raw, err := readCalls(in)
		if err != nil {
			return
		}
		answers, err := p.execute(client, server, out, calls, raw)
		if err != nil {
			return
		}
		if _, err := client.Write(answers); err != nil {
			return
		}
	}
}

// execute has the server execute commands, and tells of them.
func (p *Proxy) execute(client, server net.Conn, out *bufio.Reader, calls []Call, raw []byte) (answers []byte, err error) {
	p.order.Lock()
	defer p.order.Unlock()
	text := p.loses()
	if err := p.pass(client, false, false); err != nil {
		return nil, err
	}
	defer func() { p.told(calls) }()
	from := time.Now()
	for i := range calls {
		calls[i].From = from
	}
	_, err = server.Write(raw)
	for i := range calls {
		if err == nil {
			calls[i].Reply, answers, err = readReply(out, answers)
		}
		calls[i].To = time.Now()
	}
	if err != nil {
		for i := range calls {
			calls[i].Lost = calls[i].Reply != nil
		}
		return nil, err
	}
	err = p.pass(server, true, text != "" && bytes.Contains(raw, []byte(text)))
	for i := range calls {
		calls[i].Lost = err != nil
	}
	return answers, err
}

// readCalls reads a command, and those that came with it.
func readCalls(in *bufio.Reader) (calls []Call, raw []byte, err error) {
	for len(calls) == 0 || in.Buffered() > 0 && len(calls) < mostPiped {
		var args []string
		if args, raw, err = readCommand(in, raw); err != nil {
			return nil, nil, err
		}
		calls = append(calls, Call{Args: args})
	}
	return calls, raw, nil
}

var errProtocol = errors.New("faultproxy: this is not the protocol of Redis")

// mostBulk bounds what is believed of a length.
const mostBulk = 64 << 20

// readCommand reads one command and adds its bytes to raw.
func readCommand(in *bufio.Reader, raw []byte) (args []string, _ []byte, err error) {
	line, raw, err := readLine(in, raw)
	if err != nil {
		return nil, nil, err
	}
	n, err := lengthOf(line, '*')
	if err != nil {
		return nil, nil, err
	}
	for range n {
		if line, raw, err = readLine(in, raw); err != nil {
			return nil, nil, err
		}
		size, err := lengthOf(line, '$')
		if err != nil || size < 0 {
			return nil, nil, errors.Join(errProtocol, err)
		}
		if raw, err = readBytes(in, raw, size+2); err != nil {
			return nil, nil, err
		}
		args = append(args, string(raw[len(raw)-size-2:len(raw)-2]))
	}
	return args, raw, nil
}

// readReply reads one answer and adds its bytes to all. What the server pushes by itself is passed on, and is no answer.
func readReply(out *bufio.Reader, all []byte) (reply, _ []byte, err error) {
	for {
		from := len(all)
		if all, err = readValue(out, all); err != nil {
			return nil, nil, err
		}
		if all[from] != '>' {
			return bytes.Clone(all[from:]), all, nil
		}
	}
}

// readValue reads one value of the protocol, in its second and its third version, and adds its bytes to raw.
func readValue(in *bufio.Reader, raw []byte) ([]byte, error) {
	line, raw, err := readLine(in, raw)
	if err != nil {
		return nil, err
	}
	switch kind := line[0]; kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return raw, nil
	case '$', '=', '!':
		n, err := lengthOf(line, kind)
		if err != nil || n < 0 {
			return raw, err
		}
		return readBytes(in, raw, n+2)
	case '*', '~', '>', '%':
		n, err := lengthOf(line, kind)
		if err != nil {
			return nil, err
		}
		if kind == '%' {
			n *= 2
		}
		for range n {
			if raw, err = readValue(in, raw); err != nil {
				return nil, err
			}
		}
		return raw, nil
	}
	return nil, fmt.Errorf("%w: %.20q", errProtocol, line)
}

// readLine reads a line, and adds its bytes to raw.
func readLine(in *bufio.Reader, raw []byte) (line, _ []byte, err error) {
	line, err = in.ReadSlice('\n')
	if err != nil {
		return nil, nil, err
	}
	raw = append(raw, line...)
	if len(line) < 3 {
		return nil, nil, errProtocol
	}
	return raw[len(raw)-len(line) : len(raw)-2], raw, nil
}

func readBytes(in *bufio.Reader, raw []byte, n int) ([]byte, error) {
	from := len(raw)
	raw = append(raw, make([]byte, n)...)
	_, err := io.ReadFull(in, raw[from:])
	return raw, err
}

func lengthOf(line []byte, kind byte) (int, error) {
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || line[0] != kind || n < -1 || n > mostBulk {
		return 0, fmt.Errorf("%w: %.20q", errProtocol, line)
	}
	return n, nil
}

// Error is an answer that is an error.
type Error string

func (e Error) Error() string { return string(e) }

// Value is what an answer says: nil, an Error, a string, an int64, a []any of these, or what it says of a number with
// a point, as a string. Of a map it is the keys, each with its value behind it.
func Value(reply []byte) (any, error) {
	v, rest, err := value(reply)
	if err == nil && len(rest) > 0 {
		err = errProtocol
	}
	return v, err
}

func value(raw []byte) (v any, rest []byte, err error) {
	end := bytes.IndexByte(raw, '\n')
	if end < 2 {
		return nil, nil, errProtocol
	}
	line, rest := raw[:end-1], raw[end+1:]
	switch kind := line[0]; kind {
	case '+', ',', '(':
		return string(line[1:]), rest, nil
	case '-':
		return Error(line[1:]), rest, nil
	case ':':
		n, err := strconv.ParseInt(string(line[1:]), 10, 64)
		return n, rest, err
	case '#':
		return line[1] == 't', rest, nil
	case '_':
		return nil, rest, nil
	case '$', '=', '!':
		n, err := lengthOf(line, kind)
		switch {
		case err != nil || n < 0:
			return nil, rest, err
		case len(rest) < n+2:
			return nil, nil, errProtocol
		}
		return string(rest[:n]), rest[n+2:], nil
	case '*', '~', '%':
		n, err := lengthOf(line, kind)
		if err != nil || n < 0 {
			return nil, rest, err
		}
		if kind == '%' {
			n *= 2
		}
		list := make([]any, 0, min(n, len(rest)))
		for range n {
			var e any
			if e, rest, err = value(rest); err != nil {
				return nil, nil, err
			}
			list = append(list, e)
		}
		return list, rest, nil
	}
	return nil, nil, errProtocol
}
