package journal

import (
	"context"
	"errors"
	"time"
)

// Bucket keeps objects under names: S3, or a Folder. It is safe for concurrent use, across
// processes too. Its errors are those of this package, and others for what may work when it is
// tried again: unreachable, slow, asked too often, denied. Every call ends by its context.
type Bucket interface {
	// Put stores an object that is not there. ErrExists: it is.
	Put(ctx context.Context, name string, body []byte) error
	// Get returns an object of at most MaxObject bytes. ErrNotFound, ErrTooLarge.
	Get(ctx context.Context, name string) (Object, error)
	// Replace stores another body for an object if it is still as it was got, by its Tag.
	// ErrChanged: it is not, or it is gone.
	Replace(ctx context.Context, name, tag string, body []byte) error
	// Delete removes objects, at most 1,000; one that is not there is no error. Where there
	// is one, some of them may be gone.
	Delete(ctx context.Context, names ...string) error
	// List returns the names that begin with prefix and come after a name ("": from the first on), in
	// the order of their bytes: at most 1,000, and at most limit of them where that is positive.
	// more: there are others.
	List(ctx context.Context, prefix, after string, limit int) (objects []Listed, more bool, err error)
	// Folders returns what comes directly below a prefix that ends in a slash, up to the next
	// slash: "a/b/" for "a/" and the object "a/b/c".
	Folders(ctx context.Context, prefix string) ([]string, error)
	// Purge removes every older version of objects whose body match says yes to, under a prefix, and what is
	// left of such objects that were deleted; objects as they are now stay. It returns how many it
	// removed, and the name to go on after when ctx ended before it was done. Versions that are too large to
	// be read stay, and are ErrTooLarge when all others are done. A bucket without versions has none.
	Purge(ctx context.Context, prefix, after string, match func(name string, body []byte) bool) (removed int, next string, err error)
}

// MaxObject is the size of the largest object that is read, in bytes. None that this package writes
// comes near it.
const MaxObject = 64 << 20

// Object is an object as it was got.
type Object struct {
	Body []byte
	// Tag stands for this body.
	Tag string
}

// Listed is an object in a list.
type Listed struct {
	Name string
	Size int64
	// At is when it was stored.
	At time.Time
}

// The errors of a Bucket.
var (
	ErrExists   = errors.New("the object is there already")
	ErrNotFound = errors.New("there is no such object")
	ErrChanged  = errors.New("the object is another one by now")
	ErrTooLarge = errors.New("the object is too large")
)
