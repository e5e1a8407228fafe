package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// fetchedAtOnce is how many older versions are read at a time.
const fetchedAtOnce = 16

// versions are those of one object that are not what it is now, and the marks that it was deleted.
type versions struct {
	name          string
	bodies, marks []types.ObjectIdentifier
	// there: the object is there; it was not deleted.
	there bool
}

// Purge implements Bucket: it reads each older version, several at once; match is called for one at a
// time. A mark of an object that was deleted is removed with its last version, and never before, so
// that nothing comes back by it. A version that is too large to be read stays, and is an error in the
// end (ErrTooLarge). After another error, next is the name to go on after.
func (b *S3) Purge(ctx context.Context, prefix, after string, match func(name string, body []byte) bool) (removed int, next string, err error) {
	in := &s3.ListObjectVersionsInput{Bucket: &b.bucket, Prefix: b.key(prefix), EncodingType: types.EncodingTypeUrl}
	if after != "" {
		in.KeyMarker = b.key(after)
	}
	p := &purge{S3: b, match: match}
	next = after
	var all []versions // that of which more may come is the last one
	for {
		var out *s3.ListObjectVersionsOutput
		err := b.do(ctx, purging, prefix, func(ctx context.Context, c *s3.Client) (err error) {
			out, err = c.ListObjectVersions(ctx, in)
			return err
		})
		if err != nil {
			return p.removed, next, err
		}
		if all, err = b.gather(all, out); err != nil {
			return p.removed, next, err
		}
		whole := all
		more := aws.ToBool(out.IsTruncated) && out.NextKeyMarker != nil
		if more && len(all) > 0 {
			whole = all[:len(all)-1]
		}
		if err := p.remove(ctx, whole); err != nil {
			return p.removed, next, err
		}
		if len(whole) > 0 {
			next = whole[len(whole)-1].name
		}
		if !more {
			return p.removed, "", p.tooLarge
		}
		all = slices.Clone(all[len(whole):])
		marker, err := b.name(out.NextKeyMarker, out.EncodingType)
		if err != nil {
			return p.removed, next, err
		}
		in.KeyMarker, in.VersionIdMarker = b.key(marker), out.NextVersionIdMarker
	}
}

// gather adds a page of versions to those of the objects before.
func (b *S3) gather(all []versions, out *s3.ListObjectVersionsOutput) ([]versions, error) {
	at := map[string]int{}
	if len(all) > 0 {
		at[all[0].name] = 0
	}
	of := func(key *string) (*versions, error) {
		name, err := b.name(key, out.EncodingType)
		if err != nil {
			return nil, err
		}
		i, ok := at[name]
		if !ok {
			i = len(all)
			at[name], all = i, append(all, versions{name: name})
		}
		return &all[i], nil
	}
	for _, v := range out.Versions {
		object, err := of(v.Key)
		if err != nil {
			return nil, err
		}
		if aws.ToBool(v.IsLatest) {
			object.there = true
			continue
		}
		object.bodies = append(object.bodies, types.ObjectIdentifier{Key: b.key(object.name), VersionId: v.VersionId, Size: v.Size})
	}
	for _, m := range out.DeleteMarkers {
		object, err := of(m.Key)
		if err != nil {
			return nil, err
		}
		object.marks = append(object.marks, types.ObjectIdentifier{Key: b.key(object.name), VersionId: m.VersionId})
	}
	slices.SortStableFunc(all, func(a, b versions) int { return compare(a.name, b.name) })
	return all, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// purge is one call of Purge.
type purge struct {
	*S3
	match func(string, []byte) bool

	removed  int
	tooLarge error
}

// remove removes the older versions of objects that match, and then the marks of what has none left.
func (p *purge) remove(ctx context.Context, objects []versions) error {
	var mu sync.Mutex
	var bodies, marks []types.ObjectIdentifier
	group, fetching := errgroup.WithContext(ctx)
	group.SetLimit(fetchedAtOnce)
	kept := make([]int, len(objects))
	for i, o := range objects {
		for _, v := range o.bodies {
			group.Go(func() error {
				body, err := p.older(fetching, o.name, v)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, ErrNotFound): // gone by now
				case errors.Is(err, ErrTooLarge):
					p.tooLarge = errors.Join(p.tooLarge, err)
					kept[i]++
				case err != nil:
					return err
				case p.match(o.name, body):
					bodies = append(bodies, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
				default:
					kept[i]++
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, o := range objects {
		if kept[i] == 0 && !o.there && len(o.bodies) > 0 {
			marks = append(marks, o.marks...)
		}
	}
	for part := range slices.Chunk(bodies, pageSize) {
		if err := p.delete(ctx, purging, part); err != nil {
			return err
		}
		p.removed += len(part)
	}
	for part := range slices.Chunk(marks, pageSize) {
		if err := p.delete(ctx, purging, part); err != nil {
			return err
		}
	}
	return nil
}

// older reads an older version.
func (p *purge) older(ctx context.Context, name string, v types.ObjectIdentifier) ([]byte, error) {
	if size := aws.ToInt64(v.Size); size > MaxObject {
		return nil, fmt.Errorf("journal %s: version %s of %s: %w", p, aws.ToString(v.VersionId), name, tooLarge(size))
	}
	var o Object
	err := p.do(ctx, purging, name, func(ctx context.Context, c *s3.Client) (err error) {
		o, err = p.fetch(ctx, c, &s3.GetObjectInput{Bucket: &p.bucket, Key: v.Key, VersionId: v.VersionId})
		return err
	})
	return o.Body, err
}
