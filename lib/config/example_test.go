package config_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"backstop/lib/config"
	"backstop/lib/fault"

	_ "backstop/lib/sinks/webhook" // a kind is known where its package is imported
)

// A Cache reads a folder with a file for each sink, and again when it is no longer fresh. A file
// that cannot be used makes one sink unusable and says what to mend; the others go on.
func Example() {
	folder, err := os.MkdirTemp("", "sinks")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	for name, block := range map[string]string{
		"orders.yaml": "kind: webhook\nurl: https://receiver.example.org/orders\nretry: {max_attempts: 3, base_backoff: 500ms}\n",
		"alerts.yaml": "kind: webhook\nurl: https://receiver.example.org/alerts\nheader: {X-Team: ops}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(block), 0o600); err != nil {
			panic(err)
		}
	}
	source, err := config.ParseSource("file:" + folder)
	if err != nil {
		panic(err)
	}
	cache := config.NewCache(source, config.Options{})

	ctx := context.Background()
	snapshot, err := cache.Get(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(snapshot.Names())
	for _, finding := range snapshot.Findings() {
		finding.Source = filepath.Base(finding.Source) // the folder has another name every time
		fmt.Println(finding)
	}

	orders, err := cache.Sink(ctx, "orders")
	if err != nil {
		panic(err)
	}
	fmt.Println(orders.Sink.Name(), "is tried", orders.Retry.MaxAttempts, "times")
	alerts, err := cache.Sink(ctx, "alerts")
	if err != nil {
		panic(err)
	}
	fmt.Println(alerts.Name, "cannot be used:", fault.CodeOf(alerts.Err))
	_, err = cache.Sink(ctx, "order")
	fmt.Println(err)
	// Output:
	// [alerts orders]
	// alerts.yaml:3:1: alerts: header: unknown key; known: allow_private_recipients, allowed_hosts, format, headers, signing_secrets, url; did you mean "headers"?
	// orders is tried 3 times
	// alerts cannot be used: SINK_CONFIG_INVALID
	// SINK_NOT_FOUND: no sink "order" is configured
}
