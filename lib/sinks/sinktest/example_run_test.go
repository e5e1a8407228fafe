package sinktest_test

import (
	"fmt"
	"testing"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webhook"
)

// What the example shows is true of the kind that it shows.
func TestTheExample(t *testing.T) { sinktest.Run(t, harness()) }

// A kind's constructor tells all faults of a configuration, each with its key.
func ExampleFaultyKeys() {
	_, err := webhook.New("orders", webhook.Config{
		Format:         "xml",
		SigningSecrets: []sinks.Secret{"whsec_not base64"},
	}, nil)
	fmt.Println(sinktest.FaultyKeys(err))
	// Output: [format signing_secrets[0] url]
}
