// Package freeport finds ports for the servers that tests start: programs that must be
// told their port, and must find it free.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are below those that systems give to connections and to listeners that ask for
// any port: 32768 and more on Linux, 49152 and more elsewhere.
const lowest, highest = 20000, 32767

// Reserve returns a TCP port of loopback that nobody listens on, and that no other caller
// gets, in any process, until release is called. Its holder may listen on it, stop, and
// listen again.
func Reserve() (port int, release func(), err error) {
	var errs []error
	for range 100 {
		port := lowest + rand.IntN(highest-lowest+1)
		if release, err := reserve(port); err == nil {
			return port, release, nil
		} else {
			errs = append(errs, err)
		}
	}
	return 0, nil, fmt.Errorf("no free port: %w", errors.Join(errs...))
}

// reserve keeps the UDP port of the same number, which nobody else uses: a lock between
// processes that ends with its holder.
func reserve(port int) (func(), error) {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	lock, err := net.ListenPacket("udp", addr) //nolint:noctx // local, at once
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr) //nolint:noctx // local, at once
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return func() { _ = lock.Close() }, nil
}
