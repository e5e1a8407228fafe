package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/awsconf"
)

// defaultAPI is where `backstop dev` listens.
const defaultAPI = "http://127.0.0.1:3000"

const connectHelp = `The API is named by --api or BACKSTOP_API, and is ` + defaultAPI + ` ('backstop dev') when neither is
set. Requests to API Gateway (*.execute-api.*) are signed with your AWS credentials, found as the AWS CLI
finds them; --sign signs for other hosts too (a custom domain), --no-sign never does. An API with a JWT
authorizer takes BACKSTOP_TOKEN (or --token) instead.`

// connection is where the API is and how to call it.
type connection struct {
	url          string
	token        string
	sign, noSign bool
}

// addConnection adds the flags to c and the commands below it, and -o with them.
func addConnection(c *cobra.Command) *connection {
	addFormat(c)
	return addAPI(c)
}

// addAPI is addConnection for a command that prints no answers.
func addAPI(c *cobra.Command) *connection {
	o := &connection{}
	f := c.PersistentFlags()
	f.StringVar(&o.url, "api", "", "URL of the API, without /v1 (default $BACKSTOP_API, else "+defaultAPI+")")
	f.BoolVar(&o.sign, "sign", false, "sign requests with AWS credentials (default for API Gateway's own hosts)")
	f.BoolVar(&o.noSign, "no-sign", false, "never sign requests")
	f.StringVar(&o.token, "token", "", "bearer token for a JWT authorizer (default $BACKSTOP_TOKEN, which other users of this machine cannot see)")
	return o
}

// session is what a command needs to call the API and to answer.
type session struct {
	*client.Client
	conn *connection
	json bool // -o json
	wide bool // --wide
	out  io.Writer
}

// reading is how commands read: somebody waits for them, and is told why.
var reading = client.Options{MaxWait: 30 * time.Second}

// noticeAfter is the shortest wait that somebody is told of.
const noticeAfter = time.Second

// tellWaiting says, once, that the API asks to wait.
func tellWaiting(c *cobra.Command, then func(error, time.Duration)) func(error, time.Duration) {
	said := false
	return func(err error, wait time.Duration) {
		if then != nil {
			then(err, wait)
		} else if !said && wait >= noticeAfter {
			said = true
			note(c, "%s Trying again in %s.", asksToWait(err), wait.Round(time.Second))
		}
	}
}

// asksToWait says in a sentence what a read waits for.
func asksToWait(err error) string {
	p, ok := errors.AsType[*client.ProblemError](err)
	switch {
	case ok && p.Status == http.StatusTooManyRequests:
		return "The API has too many requests (HTTP 429)."
	case ok:
		return fmt.Sprintf("The API cannot answer now (HTTP %d).", p.Status)
	}
	return "The API does not answer."
}

// open reads the flags. Nothing is called yet.
func (o *connection) open(c *cobra.Command) (session, error) { return o.openWith(c, reading) }

// openWith is open for a command that repeats its calls in another way.
func (o *connection) openWith(c *cobra.Command, with client.Options) (session, error) {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return session{}, err
	}
	with.OnRetry = tellWaiting(c, with.OnRetry)
	api, err := o.client(c.Context(), with)
	return session{Client: api, conn: o, json: asJSON, wide: wantsWide(c), out: c.OutOrStdout()}, err
}

// client returns a client of the API.
func (o *connection) client(ctx context.Context, with client.Options) (*client.Client, error) {
	base := o.base()
	transport, err := o.transport(ctx, base)
	if err != nil {
		return nil, err
	}
	with.Transport, with.UserAgent = transport, "backstop-cli"
	c, err := client.New(base, &with)
	if err != nil {
		return nil, usage("%w", err)
	}
	return c, nil
}

// base is the API's URL.
func (o *connection) base() string {
	for _, u := range []string{o.url, os.Getenv("BACKSTOP_API")} {
		if u != "" {
			return u
		}
	}
	return defaultAPI
}

// transport authenticates as the flags say.
func (o *connection) transport(ctx context.Context, base string) (http.RoundTripper, error) {
	token := o.token
	if token == "" && !o.sign {
		token = os.Getenv("BACKSTOP_TOKEN")
	}
	region, gateway := client.GatewayRegion(base)
	switch {
	case o.sign && o.noSign:
		return nil, usage("--sign and --no-sign exclude each other")
	case o.sign && o.token != "":
		return nil, usage("--sign and --token exclude each other: an API has one authorizer")
	case token != "":
		return &client.Bearer{Token: token}, nil
	case !o.sign && (o.noSign || !gateway):
		return nil, nil
	}
	cfg, err := awsconf.Load(ctx)
	if err != nil {
		return nil, &client.CredentialsError{Err: err}
	}
	if region == "" {
		region = cfg.Region
	}
	if region == "" {
		return nil, usage("--sign needs the API's region, which the URL's host does not name: set AWS_REGION")
	}
	return &client.Signer{Credentials: cfg.Credentials, Region: region}, nil
}

// curl are curl's flags for what transport does, with the credentials that the environment has when it is run.
func (o *connection) curl() string {
	region, gateway := client.GatewayRegion(o.base())
	switch {
	case o.token != "" || !o.sign && os.Getenv("BACKSTOP_TOKEN") != "":
		return ` -H "Authorization: Bearer $BACKSTOP_TOKEN"`
	case !o.sign && (o.noSign || !gateway):
		return ""
	}
	return fmt.Sprintf(` --aws-sigv4 "aws:amz:%s:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "X-Amz-Security-Token: $AWS_SESSION_TOKEN"`,
		cmp.Or(region, "$AWS_REGION"))
}

// flags repeats in a suggested command what its user gave in this one.
func (o *connection) flags() string {
	s := ""
	if o.url != "" {
		s += " --api " + o.url
	}
	if o.sign {
		s += " --sign"
	}
	if o.noSign {
		s += " --no-sign"
	}
	return s
}
