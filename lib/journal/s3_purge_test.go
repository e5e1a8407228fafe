package journal_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"

	"backstop/internal/locals3"
	"backstop/lib/journal"
)

// purgeCheck is what Purge does in an empty bucket with versions whose prefix is p/. left counts the versions of each
// object, and its marks ("... deleted").
func purgeCheck(t *testing.T, open func() journal.Bucket, left func() map[string]int) {
	t.Helper()
	b := open()
	replace := func(name, body string) {
		t.Helper()
		o, err := b.Get(t.Context(), name)
		if err == nil {
			err = b.Replace(t.Context(), name, o.Tag, []byte(body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, bodies := range map[string][]string{
		"a/now":     {"ann", "bob", "ann", "ann now"}, // there: what it is now stays, whoever it names
		"a/ended":   {"ann", "bob and ann"},           // deleted: all of it goes, and the marks
		"a/others":  {"bob", "ann", "bob again"},      // deleted: one of its versions goes
		"a/twice":   {"ann"},
		"b/outside": {"ann", "bob"}, // another prefix
	} {
		for i, body := range bodies {
			if i == 0 {
				if err := b.Put(t.Context(), name, []byte(body)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			replace(name, body)
		}
	}
	if err := b.Delete(t.Context(), "a/ended", "a/others", "a/twice"); err != nil {
		t.Fatal(err)
	}
	// Deleted, stored again, and deleted again.
	if err := b.Put(t.Context(), "a/twice", []byte("ann")); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a/twice"); err != nil {
		t.Fatal(err)
	}
	matchAnn := func(_ string, body []byte) bool { return bytes.Contains(body, []byte("ann")) }
	removed, next, err := b.Purge(t.Context(), "a/", "", matchAnn)
	if err != nil || removed != 7 || next != "" {
		t.Errorf("Purge = %d, %q, %v, want 7 versions", removed, next, err)
	}
	want := map[string]int{"p/a/now": 2, "p/a/others": 2, "p/a/others deleted": 1, "p/b/outside": 2}
	if got := left(); !maps.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	if o, err := b.Get(t.Context(), "a/now"); err != nil || string(o.Body) != "ann now" {
		t.Errorf("what is there: %q, %v", o.Body, err)
	}
	for _, name := range []string{"a/ended", "a/others", "a/twice"} {
		if _, err := b.Get(t.Context(), name); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("%s: %v, want it gone", name, err)
		}
	}
	if removed, next, err := b.Purge(t.Context(), "a/", "", matchAnn); err != nil || removed != 0 || next != "" {
		t.Errorf("a second Purge = %d, %q, %v", removed, next, err)
	}
}

// leftIn counts the versions in a bucket of a small S3.
func leftIn(t *testing.T, url string) map[string]int {
	t.Helper()
	resp, err := http.Get(url + "/letters?versions")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct{ Key string }
	var list struct {
		Version, DeleteMarker []entry
		IsTruncated           bool
	}
	if err := xml.Unmarshal(text, &list); err != nil || list.IsTruncated {
		t.Fatal(err, list.IsTruncated)
	}
	left := map[string]int{}
	for _, v := range list.Version {
		left[v.Key]++
	}
	for _, m := range list.DeleteMarker {
		left[m.Key+" deleted"]++
	}
	return left
}

func TestPurge(t *testing.T) {
	url := served(t, locals3.New("letters"))
	purgeCheck(t, func() journal.Bucket { return journal.NewS3("letters", "p/", at(url)) }, func() map[string]int { return leftIn(t, url) })
}

// Pages end anywhere: within the versions of an object too.
func TestPurgeOverPages(t *testing.T) {
	url := served(t, pagesOf(locals3.New("letters"), "2"))
	purgeCheck(t, func() journal.Bucket { return journal.NewS3("letters", "p/", at(url)) }, func() map[string]int {
		return leftIn(t, url+"/") // pagesOf leaves another path alone
	})
}

// pagesOf makes lists of versions that short.
func pagesOf(h http.Handler, n string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("versions") && len(q) > 1 {
			q.Set("max-keys", n)
			r.URL.RawQuery = q.Encode()
		}
		if len(r.URL.Path) > 1 && r.URL.Path[1] == '/' {
			r.URL.Path = r.URL.Path[1:]
		}
		h.ServeHTTP(w, r)
	})
}

// Whoever is cut off goes on where everything before is done.
func TestPurgeGoesOnAfterAName(t *testing.T) {
	small := locals3.New("letters")
	url := served(t, pagesOf(small, "4"))
	b := journal.NewS3("letters", "p/", at(url))
	const objects = 10
	for i := range objects {
		put(t, b, fmt.Sprintf("a/%d", i))
	}
	for i := range objects {
		if err := b.Delete(t.Context(), fmt.Sprintf("a/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	seen := 0
	removed, next, err := b.Purge(ctx, "a/", "", func(string, []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen == 4 {
			cancel()
		}
		return true
	})
	if !errors.Is(err, context.Canceled) || next == "" || removed == 0 || removed >= objects {
		t.Fatalf("Purge = %d, %q, %v, want it cut off", removed, next, err)
	}
	rest, next2, err := b.Purge(t.Context(), "a/", next, func(string, []byte) bool { return true })
	if err != nil || next2 != "" || removed+rest != objects {
		t.Errorf("Purge after %q = %d, %q, %v; %d before, want %d in all", next, rest, next2, err, removed, objects)
	}
	if left := leftIn(t, url+"/"); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}
