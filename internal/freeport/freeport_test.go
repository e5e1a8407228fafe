package freeport_test

import (
	"fmt"
	"net"
	"testing"

	"backstop/internal/freeport"
)

func TestReservedPortsAreFreeAndDifferent(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		port, release, err := freeport.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(release)
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
		for range 2 { // and again after a stop
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
