package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bounds of a call whose context has no deadline, or a far one.
const (
	maxCall = time.Minute
	maxTry  = 15 * time.Second
	maxWait = time.Second
)

// minTry is how long a try lasts at least, where two of them fit into the call.
const minTry = 500 * time.Millisecond

// Bounds of a connection. One that was kept while a function was frozen may be dead: it is not
// kept for long.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	keepIdle         = 30 * time.Second
)

// DefaultConnections is how many connections are kept where S3Options say nothing.
const DefaultConnections = 50

// S3Options are what a bucket on S3 needs.
type S3Options struct {
	// AWS returns region and credentials. It is called once, with the first call of the bucket.
	// Endpoints, certificate authorities and proxies are those of the SDK: AWS_ENDPOINT_URL_S3,
	// AWS_CA_BUNDLE, HTTPS_PROXY. Required.
	AWS func() (aws.Config, error)
	// Connections is how many idle connections are kept, as many as calls are made at once.
	// 0 or less: DefaultConnections.
	Connections int
}

// S3 is a Bucket on Amazon S3, or what speaks its protocol and knows conditional writes: the
// objects of a bucket whose names begin with a prefix. It is safe for concurrent use.
//
// Each call is tried again, with pauses that grow, while its context has time (a minute at most): what
// failed on the network, what S3 answered with 5xx, SlowDown or a conflict. A try that does not end gets
// two fifths of that time, so that a second one fits. Errors name bucket, operation and what to
// do, and never a credential.
type S3 struct {
	bucket, prefix string
	client         func() (*s3.Client, error)
}

// NewS3 returns the Bucket of objects of an S3 bucket that begin with prefix, which ends in a slash or is
// empty. It does no I/O, and makes no client before the first call.
func NewS3(bucket, prefix string, o S3Options) *S3 {
	return &S3{bucket: bucket, prefix: prefix, client: sync.OnceValues(func() (*s3.Client, error) {
		if o.AWS == nil {
			return nil, errors.New("no AWS configuration was given")
		}
		cfg, err := o.AWS()
		if err != nil {
			return nil, err
		}
		return newClient(cfg, o.Connections), nil
	})}
}

var _ Bucket = (*S3)(nil)

func newClient(cfg aws.Config, connections int) *s3.Client {
	if connections <= 0 {
		connections = DefaultConnections
	}
	buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if cfg.HTTPClient == nil {
		buildable, ok = awshttp.NewBuildableClient(), true
	}
	if ok { // one of the caller's own is his
		cfg.HTTPClient = buildable.WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = dialTimeout
		}).WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = connections, connections
			t.TLSHandshakeTimeout, t.IdleConnTimeout = handshakeTimeout, keepIdle
		})
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{} // do repeats, and knows the time that is left
		o.UsePathStyle = o.BaseEndpoint != nil && !isOfAWS(*o.BaseEndpoint)
		// Bodies go by TLS, or their hash is signed: of checksums beside, servers need not know.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

// isOfAWS reports whether an endpoint is known by names such as bucket.host as well. Of others one
// cannot know: addresses and localhost are not, and servers take the bucket in the path.
func isOfAWS(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && (strings.HasSuffix(u.Hostname(), ".amazonaws.com") || strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn"))
}

// String names it in logs, as Open takes it.
func (b *S3) String() string { return Location{bucket: b.bucket, prefix: b.prefix}.String() }

// do makes tries until one succeeds, fails for good, or the time ends, and says where an error is from.
func (b *S3) do(ctx context.Context, op operation, name string, try func(context.Context, *s3.Client) error) error {
	err := b.tries(ctx, op, try)
	if err == nil {
		return nil
	}
	return fmt.Errorf("journal %s: %s %s: %w", b, op.verb, cmp.Or(name, "all"), err)
}

func (b *S3) tries(ctx context.Context, op operation, try func(context.Context, *s3.Client) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	client, err := b.made(ctx)
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	start := time.Now()
	whole := maxCall
	if deadline, ok := ctx.Deadline(); ok {
		whole = min(whole, deadline.Sub(start))
	}
	end := start.Add(whole)
	length := min(max(whole*2/5, min(whole/2, minTry)), maxTry)
	pause := 25 * time.Millisecond
	once := b.once
	if op == putting {
		once = b.twice
	}
	var last error
	for now := start; now.Before(end) && ctx.Err() == nil; now = time.Now() {
		err := once(ctx, length, end.Sub(now), client, try)
		if err == nil {
			return nil
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err // what was answered tells more than that time ran out
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		if !passing(err) || time.Until(end) <= wait {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, maxWait)
	}
	if last == nil {
		last = cmp.Or(context.Cause(ctx), context.DeadlineExceeded)
	}
	return explain(op, client.Options().Region, last)
}

// made returns the client. Whoever makes it may have to read files, or ask for credentials.
func (b *S3) made(ctx context.Context) (client *s3.Client, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		client, err = b.client()
	}()
	select {
	case <-done:
		return client, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// twice makes a try that has all the time that is left, and one beside it where that has not answered in the time of
// one: what takes its time, as the first connection of a process does, is not begun anew in vain.
func (b *S3) twice(ctx context.Context, length, left time.Duration, client *s3.Client, try func(context.Context, *s3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, min(left, maxTry))
	defer cancel()
	answers := make(chan error, 2)
	begin := func() { answers <- b.once(ctx, maxTry, left, client, try) }
	go begin()
	second := time.NewTimer(length)
	defer second.Stop()
	under, first := 1, error(nil)
	for {
		select {
		case <-second.C:
			go begin()
			under++
		case err := <-answers:
			// A try that was not answered well tells nothing of the one beside it.
			if under--; err == nil || under == 0 || !passing(err) {
				return err
			}
			first = err
		case <-ctx.Done():
			return cmp.Or(first, context.Cause(ctx))
		}
	}
}

// once makes one try.
func (b *S3) once(ctx context.Context, most, left time.Duration, client *s3.Client, try func(context.Context, *s3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, min(most, left))
	defer cancel()
	if c := client.Options().Credentials; c != nil && !aws.IsCredentialsProvider(c, (*aws.AnonymousCredentials)(nil)) {
		if _, err := c.Retrieve(ctx); err != nil { // they are kept: the request retrieves them again
			return &credentialsError{err}
		}
	}
	return try(ctx, client)
}

func (b *S3) key(name string) *string { return aws.String(b.prefix + name) }

// Put implements Bucket. Where the answer to a try was lost, and the object is there now with this
// body, it was stored.
func (b *S3) Put(ctx context.Context, name string, body []byte) error {
	return b.store(ctx, putting, name, body, ErrExists, &s3.PutObjectInput{IfNoneMatch: aws.String("*")})
}

// Replace implements Bucket. Where the answer to a try was lost, and the object has this body
// now, it was stored.
func (b *S3) Replace(ctx context.Context, name, tag string, body []byte) error {
	if tag == "" {
		return fmt.Errorf("journal %s: %s %s: no tag", b, replacing.verb, name) // it would be no condition
	}
	return b.store(ctx, replacing, name, body, ErrChanged, &s3.PutObjectInput{IfMatch: &tag})
}

// store puts an object under a condition; refused is the error where that does not hold.
func (b *S3) store(ctx context.Context, op operation, name string, body []byte, refused error, in *s3.PutObjectInput) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("journal %s: %s: %w", b, op.verb, err)
	}
	in.Bucket, in.Key = &b.bucket, b.key(name)
	var may atomic.Int32 // tries that may have stored it: under way, or without an answer
	return b.do(ctx, op, name, func(ctx context.Context, c *s3.Client) error {
		may.Add(1)
		in := *in
		in.Body = bytes.NewReader(body)
		_, err := c.PutObject(ctx, &in)
		status, code := answered(err)
		if status > 0 && status < http.StatusInternalServerError {
			may.Add(-1)
		}
		gone := status == http.StatusNotFound && code == "NoSuchKey" && op == replacing
		switch {
		case status != http.StatusPreconditionFailed && !gone:
			return err
		case may.Load() == 0:
			return refused
		}
		switch o, getErr := b.get(ctx, c, name); {
		case getErr == nil && bytes.Equal(o.Body, body):
			return nil
		case getErr == nil, errors.Is(getErr, ErrNotFound), op == putting: // it is there, whatever it is
			return refused
		default:
			return getErr
		}
	})
}

// Get implements Bucket. Of an object that is too large nothing is read.
func (b *S3) Get(ctx context.Context, name string) (o Object, err error) {
	if err := checkName(name); err != nil {
		return Object{}, fmt.Errorf("journal %s: %s: %w", b, getting.verb, err)
	}
	err = b.do(ctx, getting, name, func(ctx context.Context, c *s3.Client) (err error) {
		o, err = b.get(ctx, c, name)
		return err
	})
	return o, err
}

func (b *S3) get(ctx context.Context, c *s3.Client, name string) (Object, error) {
	return b.fetch(ctx, c, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name)})
}

func (b *S3) fetch(ctx context.Context, c *s3.Client, in *s3.GetObjectInput) (Object, error) {
	out, err := c.GetObject(ctx, in)
	if err != nil {
		if status, code := answered(err); status == http.StatusNotFound && (code == "NoSuchKey" || code == "NoSuchVersion") {
			return Object{}, ErrNotFound
		}
		return Object{}, err
	}
	defer out.Body.Close()
	size := aws.ToInt64(out.ContentLength)
	if size > MaxObject {
		return Object{}, tooLarge(size)
	}
	body := bytes.NewBuffer(make([]byte, 0, max(size, 0)+bytes.MinRead))
	n, err := body.ReadFrom(io.LimitReader(out.Body, MaxObject+1))
	switch {
	case err != nil:
		return Object{}, &transferError{err}
	case n > MaxObject:
		return Object{}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxObject)
	case out.ContentLength != nil && n != size:
		return Object{}, &transferError{io.ErrUnexpectedEOF}
	case aws.ToString(out.ETag) == "":
		return Object{}, errors.New("the answer has no ETag, without which no object can be replaced")
	}
	return Object{Body: body.Bytes(), Tag: *out.ETag}, nil
}

// Delete implements Bucket, with one request.
func (b *S3) Delete(ctx context.Context, names ...string) error {
	if err := checkNames(names); err != nil {
		return fmt.Errorf("journal %s: %s: %w", b, deleting.verb, err)
	}
	if len(names) == 0 {
		return nil
	}
	objects := make([]types.ObjectIdentifier, len(names))
	for i, name := range names {
		objects[i].Key = b.key(name)
	}
	return b.delete(ctx, deleting, objects)
}

func (b *S3) delete(ctx context.Context, op operation, objects []types.ObjectIdentifier) error {
	name := strings.TrimPrefix(*objects[0].Key, b.prefix)
	if len(objects) > 1 {
		name = fmt.Sprintf("%s and %d others", name, len(objects)-1)
	}
	return b.do(ctx, op, name, func(ctx context.Context, c *s3.Client) error {
		out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)}})
		if err != nil {
			return err
		}
		var first *notDeletedError
		for _, e := range out.Errors {
			code := aws.ToString(e.Code)
			switch {
			case code == "NoSuchKey", code == "NoSuchVersion":
			case first == nil:
				first = &notDeletedError{name: strings.TrimPrefix(aws.ToString(e.Key), b.prefix), code: code, count: 1}
			default:
				first.count++
			}
		}
		if first != nil {
			return first
		}
		return nil
	})
}

// List implements Bucket.
func (b *S3) List(ctx context.Context, prefix, after string, limit int) (objects []Listed, more bool, err error) {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: b.key(prefix), MaxKeys: aws.Int32(int32(pageLimit(limit))), EncodingType: types.EncodingTypeUrl}
	if b.prefix+after != "" {
		in.StartAfter = b.key(after) // the prefix itself may be an object: consoles make folders so
	}
	for {
		var out *s3.ListObjectsV2Output
		err := b.do(ctx, listing, prefix, func(ctx context.Context, c *s3.Client) (err error) {
			out, err = c.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil {
			return nil, false, err
		}
		for _, o := range out.Contents {
			name, err := b.name(o.Key, out.EncodingType)
			if err != nil {
				return nil, false, err
			}
			objects = append(objects, Listed{Name: name, Size: aws.ToInt64(o.Size), At: aws.ToTime(o.LastModified)})
		}
		more = aws.ToBool(out.IsTruncated)
		if len(objects) > 0 || !more || aws.ToString(out.NextContinuationToken) == "" {
			return objects, more && len(objects) > 0, nil
		}
		in.ContinuationToken = out.NextContinuationToken // an empty page, and not the last
	}
}

// name reads a key of a list, which was encoded so that it can have any bytes.
func (b *S3) name(key *string, encoding types.EncodingType) (string, error) {
	name := aws.ToString(key)
	if encoding == types.EncodingTypeUrl {
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			return "", fmt.Errorf("journal %s: %s: key %.200q: %w", b, listing.verb, name, err)
		}
		name = decoded
	}
	name, ok := strings.CutPrefix(name, b.prefix)
	if !ok {
		return "", fmt.Errorf("journal %s: %s: key %.200q was not asked for", b, listing.verb, name)
	}
	return name, nil
}

// Folders implements Bucket.
func (b *S3) Folders(ctx context.Context, prefix string) ([]string, error) {
	if err := checkFolder(prefix); err != nil {
		return nil, fmt.Errorf("journal %s: %s: %w", b, listing.verb, err)
	}
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: b.key(prefix), Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl}
	var folders []string
	for {
		var out *s3.ListObjectsV2Output
		err := b.do(ctx, listing, prefix, func(ctx context.Context, c *s3.Client) (err error) {
			out, err = c.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, p := range out.CommonPrefixes {
			name, err := b.name(p.Prefix, out.EncodingType)
			if err != nil {
				return nil, err
			}
			folders = append(folders, name)
		}
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextContinuationToken) == "" {
			return folders, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}
