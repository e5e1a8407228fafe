// Package soak drives the real functions through faults and accounts for every delivery. With the
// build tag full `go test` runs a short one; `make soak` runs N deliveries.
package soak
