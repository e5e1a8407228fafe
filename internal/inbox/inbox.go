// Package inbox is the outside world for demos, development and tests, on loopback: an
// HTTP receiver and an SMTP server that record what arrives and misbehave on request,
// and a page that shows it. None of them listens to web pages of other sites.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"backstop/internal/loopback"
)

// Options configure an Inbox. The zero value is usable. Empty addresses mean a free
// port of 127.0.0.1.
type Options struct {
	HTTPAddr, SMTPAddr, ControlAddr string
	Mail                            MailOptions
}

// Inbox is a running receiver, mail server and control page. It is safe for concurrent
// use.
type Inbox struct {
	HTTP *Receiver
	Mail *MailServer
	// URL is the receiver's base URL, ControlURL the page's, both without a slash at
	// the end. SMTPAddr is host:port.
	URL, ControlURL, SMTPAddr string

	servers []*http.Server
	wg      sync.WaitGroup
}

// Start listens on all three addresses. The inbox runs until Close.
func Start(ctx context.Context, o Options) (*Inbox, error) {
	in := &Inbox{HTTP: NewReceiver()}
	var err error
	if in.URL, err = in.serve(ctx, o.HTTPAddr, in.HTTP); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	if in.Mail, err = StartMail(ctx, o.SMTPAddr, o.Mail); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	in.SMTPAddr = in.Mail.Addr
	if in.ControlURL, err = in.serve(ctx, o.ControlAddr, in.Control()); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *Inbox) serve(ctx context.Context, addr string, h http.Handler) (url string, err error) {
	ln, err := loopback.Listen(ctx, addr)
	if err != nil {
		return "", fmt.Errorf("inbox: %w", err)
	}
	srv := &http.Server{Handler: loopback.Guard(h), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	in.servers = append(in.servers, srv)
	in.wg.Go(func() { _ = srv.Serve(ln) }) // ends with Close
	return "http://" + ln.Addr().String(), nil
}

// Close stops everything, hanging requests too.
func (in *Inbox) Close() error {
	in.HTTP.Close()
	var errs []error
	for _, srv := range in.servers {
		errs = append(errs, srv.Close())
	}
	if in.Mail != nil {
		errs = append(errs, in.Mail.Close())
	}
	in.wg.Wait()
	return errors.Join(errs...)
}
