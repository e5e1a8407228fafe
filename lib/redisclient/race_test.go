//go:build race

package redisclient

// slowdown is by how much the race detector stretches the time that calls are given. One dead
// connection after the other would still take longer.
const slowdown = 8
