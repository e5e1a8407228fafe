package email_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/mail"

	"github.com/emersion/go-smtp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
)

// mailbox is an SMTP server's backend. It knows Ann, and prints what comes for her.
type mailbox struct{}

func (mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return mailbox{}, nil }

func (mailbox) Mail(string, *smtp.MailOptions) error { return nil }

func (mailbox) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to != "ann@example.org" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}

func (mailbox) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	for _, name := range []string{"From", "To", "Subject", "Message-Id", "X-Order"} {
		fmt.Println(name+":", m.Header.Get(name))
	}
	_, err = io.Copy(io.Discard, m.Body)
	return err
}

func (mailbox) Reset() {}

func (mailbox) Logout() error { return nil }

// A sink sends each message to the address that it is given with it. The server's reply decides
// whether another attempt makes sense.
func Example() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := smtp.NewServer(mailbox{})
	go func() { _ = server.Serve(listener) }() // it returns when it is closed
	defer server.Close()

	shop, err := email.New("shop", email.Config{
		SMTPAddr: listener.Addr().String(),
		From:     "Shop <shop@example.org>",
		TLS:      email.TLSNone, // a server on the same host; elsewhere, leave it at STARTTLS
	}, nil)
	if err != nil {
		panic(err)
	}
	message := sinks.Message{
		ID:       "order:1042/shipped",
		Subject:  "Your order is on its way",
		Body:     "<p>It left <b>today</b>.</p>",
		Metadata: map[string]string{"order": "1042"},
	}
	fmt.Println(shop.Send(context.Background(), email.Recipient{Address: "ann@example.org"}, message))

	err = shop.Send(context.Background(), email.Recipient{Address: "nan@example.org"}, message)
	fmt.Println(sinks.CodeOf(err), "transient:", sinks.IsTransient(err))
	// Output:
	// From: "Shop" <shop@example.org>
	// To: <ann@example.org>
	// Subject: Your order is on its way
	// Message-Id: <order%3A1042/shipped.shop@example.org>
	// X-Order: 1042
	// <nil>
	// SINK_UNAVAILABLE transient: false
}
