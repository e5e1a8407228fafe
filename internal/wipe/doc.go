// Package wipe drives the real functions with a journal while their Redis is killed and comes back
// empty, and accounts for every delivery and every second arrival. With the build tag full `go test` runs
// a short one; `make wipe` runs N deliveries.
package wipe
