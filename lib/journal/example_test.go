package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"backstop/lib/journal"
)

// A bucket is opened by where it is, on S3 or in a folder. Its objects are stored once, and replaced
// only as they were got.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	b, err := journal.Open("file:"+dir, journal.S3Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	fmt.Println("put:", b.Put(ctx, "open/mail/a", []byte("first")))
	fmt.Println("put again:", errors.Is(b.Put(ctx, "open/mail/a", []byte("other")), journal.ErrExists))
	o, err := b.Get(ctx, "open/mail/a")
	fmt.Println("get:", string(o.Body), err)
	fmt.Println("replace:", b.Replace(ctx, "open/mail/a", o.Tag, []byte("second")))
	fmt.Println("replace what it was:", errors.Is(b.Replace(ctx, "open/mail/a", o.Tag, []byte("third")), journal.ErrChanged))
	objects, more, err := b.List(ctx, "open/", "", 0)
	fmt.Println("list:", objects[0].Name, objects[0].Size, more, err)
	// Output:
	// put: <nil>
	// put again: true
	// get: first <nil>
	// replace: <nil>
	// replace what it was: true
	// list: open/mail/a 6 false <nil>
}
