//go:build !race

package redisclient

const slowdown = 1
