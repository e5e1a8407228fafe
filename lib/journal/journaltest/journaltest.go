// Package journaltest is the contract of journal.Bucket as code: every bucket passes Run. How big
// an object may be, what faults of a service or a disk look like, and older versions are left to
// the buckets' own tests.
//
// Each case states the rule that it checks; a failing case prints it. Nothing is asserted about
// how long anything takes.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/lib/journal"
)

// Case is one rule of the contract.
type Case struct {
	// Name is the subtest's.
	Name string
	// Rule is what the case checks, as a sentence.
	Rule string
	// Check fails t where b, which is empty, breaks the rule.
	Check func(t *testing.T, b journal.Bucket)
}

// Cases returns the whole contract.
func Cases() []Case { return slices.Clone(cases) }

// Run checks buckets against the whole contract, cases in parallel. newBucket returns an empty one,
// apart from all others; it is called from several tests at once.
func Run(t *testing.T, newBucket func(t *testing.T) journal.Bucket) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Verify(t, newBucket(t))
		})
	}
}

// Verify checks an empty bucket against the case, and says the rule when that fails.
func (c Case) Verify(t *testing.T, b journal.Bucket) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the rule: %s", c.Rule)
		}
	})
	c.Check(t, b)
}

var cases = []Case{
	{"Get", "an object is got as it was put, whatever its bytes, and has a tag", checkGet},
	{"GetMissing", "what was never put, or only in part of its name, is ErrNotFound", checkGetMissing},
	{"PutOnce", "a Put of an object that is there is ErrExists, and changes nothing", checkPutOnce},
	{"PutsAtOnce", "of several Puts of one name at once, exactly one stores; the others are told ErrExists", checkPutsAtOnce},
	{"Replace", "an object is replaced if it is as it was got, and has another tag then", checkReplace},
	{"ReplaceChanged", "another tag, or an object that is gone, is ErrChanged, and changes nothing", checkReplaceChanged},
	{"ReplacesAtOnce", "of several Replaces of what was got, exactly one stores; the others are told ErrChanged", checkReplacesAtOnce},
	{"DeleteWins", "a Replace never brings back what a Delete at the same time removed", checkDeleteWins},
	{"Delete", "Delete removes what it names and nothing else; what is not there is no error", checkDelete},
	{"DeleteMany", "1,000 objects are removed in one call; more are refused, and none is removed", checkDeleteMany},
	{"PutBesideDelete", "a Put stores although the last other object of its folder is deleted meanwhile", checkPutBesideDelete},
	{"Order", "a list is in the order of the names' bytes, whatever folders they are in", checkOrder},
	{"Pages", "any limit and any name to go on after give the same objects, and say whether there are more", checkPages},
	{"Prefix", "a prefix ends anywhere in a name", checkPrefix},
	{"Thousand", "a list has 1,000 objects at most, whatever the limit; folders are all told", checkThousand},
	{"Listed", "a list tells the size of each object, and when it was stored", checkListed},
	{"Folders", "the folders below a prefix are told once each, in order, while there are objects in them", checkFolders},
	{"Names", "names keep their bytes: those of addresses and keys, and others", checkNames},
	{"BadNames", "names that lead elsewhere, or that not every bucket can have, are refused", checkBadNames},
	{"Purge", "Purge leaves objects as they are", checkPurge},
	{"Ended", "a call whose context has ended does nothing, and says why", checkEnded},
}

func put(t *testing.T, b journal.Bucket, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := b.Put(t.Context(), name, []byte("body of "+name)); err != nil {
			t.Fatalf("Put(%q): %v", name, err)
		}
	}
}

func get(t *testing.T, b journal.Bucket, name string) journal.Object {
	t.Helper()
	o, err := b.Get(t.Context(), name)
	if err != nil {
		t.Fatalf("Get(%q): %v", name, err)
	}
	return o
}

func wantBody(t *testing.T, b journal.Bucket, name, want string) {
	t.Helper()
	if got := string(get(t, b, name).Body); got != want {
		t.Errorf("Get(%q) has %.100q, want %.100q", name, got, want)
	}
}

func wantGone(t *testing.T, b journal.Bucket, name string) {
	t.Helper()
	if o, err := b.Get(t.Context(), name); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("Get(%q) = %.100q, %v, want ErrNotFound", name, o.Body, err)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want: %v", what, err, want)
	}
}

// list returns all names with a prefix, page by page.
func list(t *testing.T, b journal.Bucket, prefix string, limit int) []string {
	t.Helper()
	var names []string
	for after := ""; ; {
		page, more, err := b.List(t.Context(), prefix, after, limit)
		if err != nil {
			t.Fatalf("List(%q, %q, %d): %v", prefix, after, limit, err)
		}
		if len(page) == 0 && more || limit > 0 && len(page) > limit {
			t.Fatalf("List(%q, %q, %d): %d objects, more %v", prefix, after, limit, len(page), more)
		}
		for _, o := range page {
			names = append(names, o.Name)
			after = o.Name
		}
		if !more {
			return names
		}
	}
}

func wantList(t *testing.T, b journal.Bucket, prefix string, want ...string) {
	t.Helper()
	if got := list(t, b, prefix, 0); !slices.Equal(got, want) {
		t.Errorf("List(%q):\n%q, want\n%q", prefix, got, want)
	}
}

func wantFolders(t *testing.T, b journal.Bucket, prefix string, want ...string) {
	t.Helper()
	got, err := b.Folders(t.Context(), prefix)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Folders(%q) = %q, %v, want %q", prefix, got, err, want)
	}
}

// atOnce runs n calls, which begin together, and returns their errors.
func atOnce(n int, call func(i int) error) []error {
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			errs[i] = call(i)
		})
	}
	close(begin)
	wg.Wait()
	return errs
}

// onlyOne returns which call had no error; all others must have that one.
func onlyOne(t *testing.T, errs []error, others error) int {
	t.Helper()
	one := -1
	for i, err := range errs {
		switch {
		case err == nil && one >= 0:
			t.Fatalf("calls %d and %d both stored", one, i)
		case err == nil:
			one = i
		case !errors.Is(err, others):
			t.Errorf("call %d: %v, want: %v", i, err, others)
		}
	}
	if one < 0 {
		t.Fatal("no call stored")
	}
	return one
}

func checkGet(t *testing.T, b journal.Bucket) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, body := range map[string][]byte{
		"a/every": every, "a/empty": {}, "a/lines": []byte("{}\r\n\nnull\n"), "large": bytes.Repeat(every, 4096), "zip": []byte("\x1f\x8b\x08\x00"),
	} {
		if err := b.Put(t.Context(), name, body); err != nil {
			t.Fatalf("Put(%q): %v", name, err)
		}
		if o := get(t, b, name); !bytes.Equal(o.Body, body) || o.Tag == "" {
			t.Errorf("Get(%q) has %d bytes, want %d; tag %q", name, len(o.Body), len(body), o.Tag)
		}
	}
	if get(t, b, "a/every").Tag == get(t, b, "a/empty").Tag {
		t.Error("two bodies have one tag")
	}
}

func checkGetMissing(t *testing.T, b journal.Bucket) {
	wantGone(t, b, "a/b/c")
	put(t, b, "a/b/c")
	for _, name := range []string{"a", "a/b", "a/b/c/d", "a/b/cd", "b"} {
		wantGone(t, b, name)
	}
}

func checkPutOnce(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b")
	tag := get(t, b, "a/b").Tag
	wantError(t, "second Put", b.Put(t.Context(), "a/b", []byte("other")), journal.ErrExists)
	wantError(t, "Put of the same", b.Put(t.Context(), "a/b", []byte("body of a/b")), journal.ErrExists)
	wantBody(t, b, "a/b", "body of a/b")
	if got := get(t, b, "a/b").Tag; got != tag {
		t.Errorf("tag %q, want %q as before", got, tag)
	}
}

func checkPutsAtOnce(t *testing.T, b journal.Bucket) {
	errs := atOnce(16, func(i int) error { return b.Put(t.Context(), "a/b/c", fmt.Appendf(nil, "body %d", i)) })
	wantBody(t, b, "a/b/c", fmt.Sprintf("body %d", onlyOne(t, errs, journal.ErrExists)))
	wantList(t, b, "", "a/b/c")
}

func checkReplace(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b", "a/c")
	before := get(t, b, "a/b").Tag
	if err := b.Replace(t.Context(), "a/b", before, []byte("second")); err != nil {
		t.Fatal(err)
	}
	o := get(t, b, "a/b")
	if string(o.Body) != "second" || o.Tag == before {
		t.Errorf("got %q with tag %q (before: %q)", o.Body, o.Tag, before)
	}
	if err := b.Replace(t.Context(), "a/b", o.Tag, []byte("third")); err != nil {
		t.Fatal(err)
	}
	wantBody(t, b, "a/b", "third")
	wantBody(t, b, "a/c", "body of a/c")
}

func checkReplaceChanged(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b", "a/c")
	first := get(t, b, "a/b").Tag
	if err := b.Replace(t.Context(), "a/b", first, []byte("second")); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]struct{ name, tag string }{
		"an older tag": {"a/b", first}, "another's tag": {"a/b", get(t, b, "a/c").Tag},
		"an object that is not there": {"a/d", first}, "a folder that is not there": {"d/e", first},
	} {
		wantError(t, what, b.Replace(t.Context(), call.name, call.tag, []byte("third")), journal.ErrChanged)
	}
	wantBody(t, b, "a/b", "second")
	if err := b.Delete(t.Context(), "a/b", "a/c"); err != nil {
		t.Fatal(err)
	}
	wantError(t, "an object that was deleted", b.Replace(t.Context(), "a/b", first, []byte("third")), journal.ErrChanged)
	wantList(t, b, "")
}

func checkReplacesAtOnce(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b")
	tag := get(t, b, "a/b").Tag
	errs := atOnce(16, func(i int) error { return b.Replace(t.Context(), "a/b", tag, fmt.Appendf(nil, "body %d", i)) })
	wantBody(t, b, "a/b", fmt.Sprintf("body %d", onlyOne(t, errs, journal.ErrChanged)))
}

func checkDeleteWins(t *testing.T, b journal.Bucket) {
	for i := range 20 {
		name := fmt.Sprintf("a/%d", i)
		put(t, b, name)
		tag := get(t, b, name).Tag
		errs := atOnce(2, func(i int) error {
			if i == 0 {
				return b.Delete(t.Context(), name)
			}
			return b.Replace(t.Context(), name, tag, []byte("second"))
		})
		if errs[0] != nil || errs[1] != nil && !errors.Is(errs[1], journal.ErrChanged) {
			t.Fatalf("Delete: %v; Replace: %v", errs[0], errs[1])
		}
		wantGone(t, b, name)
	}
}

func checkDelete(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b/c", "a/b/d", "a/bc", "b")
	if err := b.Delete(t.Context(), "a/b/c", "b", "never/there", "a/b"); err != nil {
		t.Fatal(err)
	}
	wantGone(t, b, "a/b/c")
	wantList(t, b, "", "a/b/d", "a/bc")
	for _, names := range [][]string{nil, {"a/b/c"}} {
		if err := b.Delete(t.Context(), names...); err != nil {
			t.Errorf("Delete(%q): %v", names, err)
		}
	}
	put(t, b, "a/b/c")
	wantList(t, b, "", "a/b/c", "a/b/d", "a/bc")
}

func checkDeleteMany(t *testing.T, b journal.Bucket) {
	put(t, b, "a/0", "a/500", "a/999", "a/1000")
	names := make([]string, 1001)
	for i := range names {
		names[i] = fmt.Sprintf("a/%d", i)
	}
	if err := b.Delete(t.Context(), names...); err == nil {
		t.Error("1,001 names were taken")
	}
	wantList(t, b, "a/", "a/0", "a/1000", "a/500", "a/999")
	if err := b.Delete(t.Context(), names[:1000]...); err != nil {
		t.Fatal(err)
	}
	wantList(t, b, "a/", "a/1000")
}

func checkPutBesideDelete(t *testing.T, b journal.Bucket) {
	for round := range 10 {
		last := fmt.Sprintf("a/%d/b/last", round)
		put(t, b, last)
		errs := atOnce(5, func(i int) error {
			if i == 0 {
				return b.Delete(t.Context(), last)
			}
			return b.Put(t.Context(), fmt.Sprintf("a/%d/b/%d", round, i), []byte("x"))
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		folder := fmt.Sprintf("a/%d/b/", round)
		wantList(t, b, folder, folder+"1", folder+"2", folder+"3", folder+"4")
	}
}

// unordered are names whose order is not that of their folders': a slash sorts after these and
// before digits and letters.
var unordered = []string{
	"a-b", "a-b/c", "a.b", "a.b/c", "a/!", "a/b/c", "a/b-c", "a/b.c", "a/b0", "a/b/c0/d", "a0", "a0/b", "a:b", "ab", "ab/c", "A/b", "a~", "z", "ä/b", "日本",
}

// ordered returns those of unordered that a file system can have beside each other.
func ordered() []string {
	var names []string
	for _, name := range unordered {
		if !slices.ContainsFunc(unordered, func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func checkOrder(t *testing.T, b journal.Bucket) {
	names := ordered()
	for _, i := range []int{3, 1, 0} { // not in their order
		for j := i; j < len(names); j += 4 {
			put(t, b, names[j])
		}
	}
	for j := 2; j < len(names); j += 4 {
		put(t, b, names[j])
	}
	wantList(t, b, "", names...)
}

func checkPages(t *testing.T, b journal.Bucket) {
	names := ordered()
	put(t, b, names...)
	for limit := 1; limit <= len(names)+1; limit++ {
		if got := list(t, b, "", limit); !slices.Equal(got, names) {
			t.Errorf("pages of %d:\n%q, want\n%q", limit, got, names)
		}
	}
	afters := append(slices.Clone(names), "", " ", "a", "a/", "a/b", "a/b/", "a/b/c0", "a/b/c0/", "a/b/zz", "a/~", "a/b/c/d/e", "a/b/c0/d/", "zz", "日本国", "~")
	for _, after := range afters {
		i, found := slices.BinarySearch(names, after)
		if found {
			i++
		}
		for _, limit := range []int{1, 3, 0} {
			end := len(names)
			if limit > 0 {
				end = min(end, i+limit)
			}
			page, more, err := b.List(t.Context(), "", after, limit)
			got := make([]string, len(page))
			for j, o := range page {
				got[j] = o.Name
			}
			if err != nil || !slices.Equal(got, names[i:end]) || more != (end < len(names)) {
				t.Errorf("List after %q, limit %d: %q, more %v, %v, want %q", after, limit, got, more, err, names[i:end])
			}
		}
	}
}

func checkPrefix(t *testing.T, b journal.Bucket) {
	names := ordered()
	put(t, b, names...)
	for _, prefix := range []string{"a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c0", "a/b/c0/d", "a/b/c0/d/", "a/b/c0/de", "a-", "A", "b", "/", "a//", "ä", "日", "../", "."} {
		var want []string
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				want = append(want, name)
			}
		}
		for _, limit := range []int{1, 2, 0} {
			if got := list(t, b, prefix, limit); !slices.Equal(got, want) {
				t.Errorf("List(%q), pages of %d: %q, want %q", prefix, limit, got, want)
			}
		}
	}
	// A name to go on after may be outside the prefix.
	for after, want := range map[string]bool{"a/a": true, "b": false} {
		page, _, err := b.List(t.Context(), "a/b", after, 0)
		if err != nil || (len(page) > 0) != want {
			t.Errorf("List(a/b) after %q has %d objects, %v", after, len(page), err)
		}
	}
}

func checkThousand(t *testing.T, b journal.Bucket) {
	names := make([]string, 1002)
	folders := make([]string, len(names))
	for i := range names {
		folders[i] = fmt.Sprintf("many/%04d/", i)
		names[i] = folders[i] + "o"
	}
	for _, err := range atOnce(4, func(i int) error {
		for ; i < len(names); i += 4 {
			if err := b.Put(t.Context(), names[i], []byte("x")); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{0, -1, 1000, 1001, 1 << 40} {
		page, more, err := b.List(t.Context(), "many/", "", limit)
		if err != nil || len(page) != 1000 || !more {
			t.Errorf("List with limit %d: %d objects, more %v, %v, want 1,000 and more", limit, len(page), more, err)
		}
	}
	wantList(t, b, "", names...)
	wantFolders(t, b, "many/", folders...)
}

func checkListed(t *testing.T, b journal.Bucket) {
	before := time.Now()
	if err := b.Put(t.Context(), "a/b", make([]byte, 1234)); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "empty", nil); err != nil {
		t.Fatal(err)
	}
	page, _, err := b.List(t.Context(), "", "", 0)
	if err != nil || len(page) != 2 || page[0].Size != 1234 || page[1].Size != 0 {
		t.Fatalf("List = %+v, %v", page, err)
	}
	// Another clock may have told the time, in seconds.
	if age := page[0].At.Sub(before); age < -time.Hour || age > time.Hour {
		t.Errorf("stored at %s, want about %s", page[0].At, before)
	}
}

func checkFolders(t *testing.T, b journal.Bucket) {
	wantFolders(t, b, "")
	wantFolders(t, b, "a/")
	put(t, b, "a/b/c", "a/b/d/e", "a/file", "a-/b", "a/b0/c", "a/b-/c", "z", "c/d/e/f")
	wantFolders(t, b, "", "a-/", "a/", "c/")
	wantFolders(t, b, "a/", "a/b-/", "a/b/", "a/b0/")
	wantFolders(t, b, "a/b/", "a/b/d/")
	wantFolders(t, b, "a/b/d/")
	wantFolders(t, b, "c/d/", "c/d/e/")
	wantFolders(t, b, "b/")
	for _, prefix := range []string{"a", "/", "a//", "../"} {
		if got, err := b.Folders(t.Context(), prefix); err == nil {
			t.Errorf("Folders(%q) = %q, want it refused", prefix, got)
		}
	}
	if err := b.Delete(t.Context(), "c/d/e/f", "a/b/d/e"); err != nil {
		t.Fatal(err)
	}
	wantFolders(t, b, "", "a-/", "a/")
	wantFolders(t, b, "a/b/")
}

func checkNames(t *testing.T, b journal.Bucket) {
	names := []string{
		"open/mail/f/2026112704/06agv3b2c5.Ab_cd-EF12~g1.Zm9v_-9-1.ndjson", "state/a.b-c/0/2026112704/06agv3b2c5-25:24", "1764212345678-0",
		"a.b", "..a", "a..", "...", "a~b", "a@b", "a:b", "a=b", "a+b", "a b", " a", "a%2Fb", "a%b", "a&b", "a;b", "a,b", "a#b", "a?b", "a*b", "a(b)", "a'b", `a"b`, `a\b`,
		"a|b", "a<b>", "a[b]", "a{b}", "a^b", "a`b", "a$b", "a!b", "_", "-", "\u00e4", "a\u0308", "日本", "😀", "a\u00a0b", "temp-1", "lock", ".hidden", ".backstop2", "x/.backstop",
		strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200),
	}
	slices.Sort(names)
	put(t, b, names...)
	wantList(t, b, "", names...)
	for _, name := range names {
		o := get(t, b, name)
		if string(o.Body) != "body of "+name {
			t.Errorf("Get(%q) has %q", name, o.Body)
		}
		if err := b.Replace(t.Context(), name, o.Tag, []byte("x")); err != nil {
			t.Errorf("Replace(%q): %v", name, err)
		}
		if page, _, err := b.List(t.Context(), name, "", 1); err != nil || len(page) != 1 || page[0].Name != name {
			t.Errorf("List(%q) = %+v, %v", name, page, err)
		}
	}
	if err := b.Delete(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	wantList(t, b, "")
}

func checkBadNames(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b")
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../a/b", "a/./b", "a\x00b", "a\nb", "a\x7f", "a\xff", ".backstop", ".backstop/a", strings.Repeat("a/", 400) + "a",
	} {
		_, getErr := b.Get(t.Context(), name)
		for what, err := range map[string]error{
			"Put": b.Put(t.Context(), name, nil), "Get": getErr, "Replace": b.Replace(t.Context(), name, "tag", nil), "Delete": b.Delete(t.Context(), "a/b", name),
		} {
			if err == nil || errors.Is(err, journal.ErrExists) || errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrChanged) {
				t.Errorf("%s(%.50q): %v, want it refused", what, name, err)
			}
		}
	}
	wantList(t, b, "", "a/b")
}

func checkPurge(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b", "a/c")
	if removed, next, err := b.Purge(t.Context(), "a/", "", func(string, []byte) bool { return true }); removed != 0 || next != "" || err != nil {
		t.Errorf("Purge = %d, %q, %v, want nothing to do", removed, next, err)
	}
	wantList(t, b, "", "a/b", "a/c")
	wantBody(t, b, "a/b", "body of a/b")
}

func checkEnded(t *testing.T, b journal.Bucket) {
	put(t, b, "a/b")
	tag := get(t, b, "a/b").Tag
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := b.Get(ctx, "a/b")
	_, _, listErr := b.List(ctx, "", "", 0)
	_, foldersErr := b.Folders(ctx, "")
	_, _, purgeErr := b.Purge(ctx, "", "", func(string, []byte) bool { return true })
	for what, err := range map[string]error{
		"Put": b.Put(ctx, "a/c", nil), "Get": getErr, "Replace": b.Replace(ctx, "a/b", tag, nil), "Delete": b.Delete(ctx, "a/b"),
		"List": listErr, "Folders": foldersErr, "Purge": purgeErr,
	} {
		wantError(t, what, err, context.Canceled)
	}
	wantList(t, b, "", "a/b")
	wantBody(t, b, "a/b", "body of a/b")
}
