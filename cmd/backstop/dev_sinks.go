package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"backstop/internal/kinds"
	"backstop/lib/config"
	"backstop/lib/redisclient"
	"backstop/lib/sinks"
)

// ownSinks are the sinks that dev was given.
type ownSinks struct {
	source   config.Source
	snapshot *config.Snapshot
}

// readOwnSinks reads and checks them. An error says what is wrong and how to see more.
func readOwnSinks(c *cobra.Command, arg string) (*ownSinks, error) {
	source, err := readSource(arg)
	if err != nil {
		return nil, err
	}
	own := &ownSinks{source: source}
	findings, err := own.read(c.Context())
	if err != nil {
		return nil, hinted(err, "--sinks names a folder (one file for each sink), a file with all sinks, or ssm:/PATH; 'backstop sink example KIND' prints a sink.")
	}
	for _, f := range findings {
		note(c, "%s", printable(f.String()))
	}
	if err := faulty(findings); err != nil {
		return nil, err
	}
	if len(own.snapshot.Names()) == 0 {
		return nil, hinted(fmt.Errorf("%s has no sinks", source), "'backstop sink example KIND > %s/NAME.yaml' writes one; 'backstop sink kinds' lists the kinds.", strings.TrimPrefix(source.String(), "file:"))
	}
	return own, nil
}

// read reads the sinks as the functions do, and says what is wrong with them.
func (o *ownSinks) read(ctx context.Context) ([]config.Finding, error) {
	setUpKinds(ctx)
	findings, err := check(ctx, o.source)
	if err != nil {
		return nil, err
	}
	client := lazySSM(sync.OnceValues(func() (*ssm.Client, error) { return ssmClient(ctx) }))
	snapshot, err := config.NewCache(o.source, config.Options{SSM: client, Logger: slog.New(slog.DiscardHandler)}).Get(ctx)
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		return findings, err
	}
	o.snapshot = snapshot
	return findings, nil
}

// firstSend is the body of a first request that one of the sinks takes.
func (o *ownSinks) firstSend() string {
	kindOf := map[string]string{}
	for _, d := range o.snapshot.Describe() {
		kindOf[d.Name] = d.Kind
	}
	for _, name := range o.snapshot.Names() {
		s, _ := o.snapshot.Sink(name)
		if s == nil || s.Err != nil {
			continue
		}
		m, to := sinks.Message{Body: "hello"}, json.RawMessage(nil)
		if k, err := kinds.Named(kindOf[name]); err == nil && sinks.Validate(s.Sink, nil, m) != nil {
			m, to = k.Message(), exampleRecipient(k)
		}
		b, err := json.Marshal(struct {
			Sink      string          `json:"sink"`
			Recipient json.RawMessage `json:"recipient,omitempty"`
			Message   sinks.Message   `json:"message"`
		}{name, to, m})
		if err == nil {
			return string(b)
		}
	}
	return ""
}

func exampleRecipient(k *kinds.Kind) json.RawMessage {
	to, err := k.To()
	if err != nil {
		return nil
	}
	return to
}

// lookEvery is how often dev looks whether a file of the sinks was saved.
const lookEvery = 300 * time.Millisecond

// watch says what became of the sinks whenever their files were saved. The functions read them again
// by themselves. It returns when ctx ends.
func (o *ownSinks) watch(ctx context.Context, say func(format string, args ...any)) {
	path, ok := strings.CutPrefix(o.source.String(), "file:")
	if !ok {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := savedState(path); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := savedState(path); now != last {
			last = now
			o.reread(ctx, say)
		}
	}
}

// reread says what is wrong after a change, or which sinks there are.
func (o *ownSinks) reread(ctx context.Context, say func(format string, args ...any)) {
	findings, err := o.read(ctx)
	if err != nil {
		say("sinks: %s", err)
		say("sinks: what was read before stays in use")
		return
	}
	for _, f := range findings {
		say("sinks: %s", f.String())
	}
	if n := countFaults(findings); n > 0 {
		say("sinks: %s; of a faulty sink, what was read before stays in use", plural(int64(n), "fault"))
		return
	}
	say("sinks: read again: %s", strings.Join(o.snapshot.Names(), ", "))
}

// savedState tells one state of a file, or of the files in a folder, from another.
func savedState(path string) string {
	var b strings.Builder
	_ = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() { // what is gone is another state
			if info, err := d.Info(); err == nil {
				fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
			}
		}
		return nil
	})
	return b.String()
}

// askRedis asks a Redis for an answer, so that dev ends with what is wrong before anything is sent.
func askRedis(ctx context.Context, raw string, env map[string]string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Host == "" {
		return usage("--redis: want redis://HOST:PORT or rediss://HOST:PORT")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "6379"))
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err == nil {
		err = c.Close()
	}
	if err == nil {
		err = ping(ctx, raw, env)
	}
	if err != nil {
		return hinted(fmt.Errorf("no Redis answers at %s: %w", address, err), "Start one (redis-server), or leave --redis out: then one is embedded, and forgets at the end.")
	}
	return nil
}

// ping logs in as the functions do with a password, if they have one.
func ping(ctx context.Context, raw string, env map[string]string) error {
	o := redisclient.Options{URL: raw, Cluster: env["BACKSTOP_REDIS_CLUSTER"] == "true"}
	if password, ok := env["BACKSTOP_REDIS_PASSWORD"]; ok {
		o.Credentials = func(context.Context) (string, string, error) { return "", password, nil }
	}
	client, _, err := redisclient.New(o)
	if err != nil {
		return err
	}
	return errors.Join(client.Ping(ctx).Err(), client.Close())
}
