package email

import (
	"context"
	"net/http"
	"net/mail"
	"net/url"

	"backstop/lib/sinks/internal/httpsend"
)

// forward posts the mail to where everything goes (sinks.WithForward).
func (s *Sink) forward(ctx context.Context, to *mail.Address, text []byte) error {
	resp, err := httpsend.NewClient(nil).Post(ctx, httpsend.Request{
		URL:   &url.URL{Scheme: "smtp", Host: s.addr},
		Label: s.addr, Body: text,
		Header: http.Header{"Content-Type": {"message/rfc822"}, "Backstop-Envelope-From": {s.from.Address}, "Backstop-Envelope-To": {to.Address}},
	})
	if err != nil {
		return err
	}
	return resp.Developer(s.addr)
}
