// Command producer is a shop's service that tells customers about their orders through
// Backstop: POST /shipped takes the orders that left the house. It calls the HTTP API
// (-api URL) or writes to the queue (-queue URL).
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"backstop/client"

	"example.org/team/producer/notify"
)

func main() {
	api := flag.String("api", "", "URL of Backstop's API, such as https://abc123.execute-api.eu-central-1.amazonaws.com")
	queue := flag.String("queue", "", "URL of Backstop's queue, to send through it instead")
	listen := flag.String("listen", "127.0.0.1:8080", "address of this service")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if err := run(ctx, log, *api, *queue, *listen); err != nil {
		log.ErrorContext(ctx, "stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, api, queue, listen string) error {
	backstop, err := sender(ctx, log, api, queue)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: listen, Handler: &shop{backstop: backstop, log: log}, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// What is under way may take as long as a call of the API.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 45*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}

// sender is one way to Backstop.
func sender(ctx context.Context, log *slog.Logger, api, queue string) (notify.Sender, error) {
	if (api == "") == (queue == "") {
		return nil, errors.New("give one of -api and -queue")
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if queue != "" {
		return &notify.Queue{Client: sqs.NewFromConfig(cfg), URL: queue}, nil
	}
	c, err := client.New(api, &client.Options{Transport: signed(api, cfg), UserAgent: "shop"})
	if err != nil {
		return nil, err
	}
	return &notify.API{Client: c, Log: log}, nil
}

// signed authenticates calls of an API that API Gateway serves; others, such as the local
// one of `backstop dev`, need nothing.
func signed(api string, cfg aws.Config) http.RoundTripper {
	region, ok := client.GatewayRegion(api)
	if !ok {
		return http.DefaultTransport
	}
	return &client.Signer{Credentials: cfg.Credentials, Region: region}
}
