// Command dlq-api answers the operator's HTTP API over the dead-letter queue.
package main

import (
	"context"

	"github.com/akrylysov/algnhsa"
	"github.com/aws/aws-lambda-go/lambda"

	"backstop/lib/app"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
)

func main() {
	a, err := app.New(context.Background())
	lambda.StartWithOptions(algnhsa.New(newAPI(a, err), &algnhsa.Options{RequestType: algnhsa.RequestTypeAPIGatewayV2}),
		lambda.WithEnableSIGTERM(a.Close))
}
