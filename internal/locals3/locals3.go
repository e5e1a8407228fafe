// Package locals3 is as much of Amazon S3 as a journal needs, in memory, for tests and the local
// host: buckets with versions, conditional writes, lists, and faults on demand. Signatures are not
// checked; buckets are addressed by path.
//
// Its answers follow the S3 API Reference (API version 2006-03-01): PutObject with If-None-Match
// and If-Match, GetObject, DeleteObject, DeleteObjects, ListObjectsV2, ListObjectVersions.
package locals3

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the ETag of S3
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server answers for buckets. It is safe for concurrent use. Make it with New.
type Server struct {
	// Fault is asked before each request, outside of any lock: it may wait. Nil, or a zero Fault:
	// the request is answered as it should be. It is set before the first request.
	Fault func(r *http.Request) Fault
	// Watch is told of each change of an object, in their order, before whoever asked for it is: what it was and what
	// it is, nil where there is none. It must not change them, nor call the server. Nil: nobody is.
	Watch func(bucket, name string, was, now []byte)

	mu      sync.Mutex
	buckets map[string]*bucket
	next    int // version
	calls   map[string]int
}

// Fault is what happens to a request.
type Fault struct {
	// Status and Code are answered instead: 503 and SlowDown, say. Zero: the request is carried out.
	Status int
	Code   string
	// Cut ends the connection without an answer: after the request was carried out, or, with a
	// Status, before.
	Cut bool
}

type bucket struct {
	objects map[string][]version // oldest first
	names   []string             // of what is there, sorted
}

type version struct {
	id      string
	body    []byte
	etag    string
	at      time.Time
	deleted bool
}

// New returns a server with empty buckets.
func New(buckets ...string) *Server {
	s := &Server{buckets: map[string]*bucket{}, calls: map[string]int{}}
	for _, name := range buckets {
		s.buckets[name] = &bucket{objects: map[string][]version{}}
	}
	return s
}

// Calls returns how many requests of a kind came: put, get, list, delete, or versions.
func (s *Server) Calls(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[kind]
}

// Names returns the names of the objects of a bucket that begin with prefix, in order.
func (s *Server) Names(bucket, prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[bucket]
	if b == nil {
		return nil
	}
	var names []string
	for _, name := range b.names {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// Life is how long an object had a body.
type Life struct {
	Name        string
	Body        []byte
	From, Until time.Time // Until is zero while it has it
}

// Lives returns the bodies that the objects of a bucket had whose names begin with prefix, in no order but
// the oldest of each first. Versions that were deleted as such are left out.
func (s *Server) Lives(bucket, prefix string) []Life {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[bucket]
	if b == nil {
		return nil
	}
	var lives []Life
	for name, versions := range b.objects {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		for i, v := range versions {
			if v.deleted {
				continue
			}
			l := Life{Name: name, Body: v.body, From: v.at}
			if i+1 < len(versions) {
				l.Until = versions[i+1].at
			}
			lives = append(lives, l)
		}
	}
	return lives
}

// name keeps names in order once an object has come or gone: a list costs what it returns, however many there are.
func (b *bucket) name(name string) {
	i, listed := slices.BinarySearch(b.names, name)
	switch there := b.current(name) != nil; {
	case there && !listed:
		b.names = slices.Insert(b.names, i, name)
	case !there && listed:
		b.names = slices.Delete(b.names, i, i+1)
	}
}

func (b *bucket) current(name string) *version {
	all := b.objects[name]
	if len(all) == 0 || all[len(all)-1].deleted {
		return nil
	}
	return &all[len(all)-1]
}

// most is the largest body that is taken, in bytes.
const most = 64 << 20

// apiError is an answer that is no success.
type apiError struct {
	XMLName xml.Name `xml:"Error"`
	status  int
	Code    string
	Message string
}

func (e *apiError) Error() string { return e.Code }

func failure(status int, code string) *apiError {
	return &apiError{status: status, Code: code, Message: code}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var f Fault
	if s.Fault != nil {
		f = s.Fault(r)
	}
	if f.Status == 0 {
		answer, err := s.answer(r)
		if f.Cut {
			cut(w)
			return
		}
		if err == nil {
			answer(w)
			return
		}
		f.Status, f.Code = err.status, err.Code
	} else if f.Cut {
		cut(w)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.Status)
	if r.Method != http.MethodHead {
		_ = xml.NewEncoder(w).Encode(failure(f.Status, f.Code)) // whoever asked is gone
	}
}

// cut ends the connection.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

type respond func(http.ResponseWriter)

func (s *Server) answer(r *http.Request) (respond, *apiError) {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(io.LimitReader(r.Body, most))
	if err != nil {
		return nil, failure(http.StatusBadRequest, "IncompleteBody")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return nil, failure(http.StatusNotFound, "NoSuchBucket")
	}
	q := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodPost && q.Has("delete"):
		s.calls["delete"]++
		return s.deleteAll(name, body)
	case key == "" && r.Method == http.MethodGet && q.Has("versions"):
		s.calls["versions"]++
		return b.versions(q.Get("prefix"), q.Get("key-marker"), q.Get("version-id-marker"), limit(q.Get("max-keys")))
	case key == "" && r.Method == http.MethodGet:
		s.calls["list"]++
		return b.list(q.Get("prefix"), q.Get("start-after"), q.Get("continuation-token"), q.Get("delimiter"), limit(q.Get("max-keys")))
	case r.Method == http.MethodPut:
		s.calls["put"]++
		return s.put(name, key, body, r.Header)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.calls["get"]++
		return b.get(key, q.Get("versionId"))
	case r.Method == http.MethodDelete:
		s.calls["delete"]++
		s.remove(name, key, q.Get("versionId"))
		return func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, nil
	}
	return nil, failure(http.StatusMethodNotAllowed, "MethodNotAllowed")
}

func limit(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 || n > 1000 {
		return 1000
	}
	return n
}

func (s *Server) put(name, key string, body []byte, h http.Header) (respond, *apiError) {
	b := s.buckets[name]
	now := b.current(key)
	if h.Get("If-None-Match") == "*" && now != nil {
		return nil, failure(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	if match := h.Get("If-Match"); match != "" {
		if now == nil {
			return nil, failure(http.StatusNotFound, "NoSuchKey")
		}
		if match != now.etag {
			return nil, failure(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	}
	sum := md5.Sum(body) //nolint:gosec // the ETag of S3
	v := version{id: s.id(), body: body, etag: `"` + hex.EncodeToString(sum[:]) + `"`, at: time.Now().UTC()}
	s.watch(name, key, bodyOf(now), body)
	b.objects[key] = append(b.objects[key], v)
	b.name(key)
	return func(w http.ResponseWriter) {
		w.Header().Set("ETag", v.etag)
		w.Header().Set("x-amz-version-id", v.id)
	}, nil
}

func (s *Server) id() string {
	s.next++
	return fmt.Sprintf("v%09d", s.next)
}

func (b *bucket) get(key, id string) (respond, *apiError) {
	v := b.current(key)
	if id != "" {
		v = nil
		for i := range b.objects[key] {
			if b.objects[key][i].id == id {
				v = &b.objects[key][i]
			}
		}
	}
	switch {
	case v == nil && id != "":
		return nil, failure(http.StatusNotFound, "NoSuchVersion")
	case v == nil:
		return nil, failure(http.StatusNotFound, "NoSuchKey")
	case v.deleted:
		return nil, failure(http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
	found := *v
	return func(w http.ResponseWriter) {
		w.Header().Set("ETag", found.etag)
		w.Header().Set("Last-Modified", found.at.Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(found.body)))
		_, _ = w.Write(found.body) // whoever asked is gone
	}, nil
}

func (s *Server) watch(bucket, name string, was, now []byte) {
	if s.Watch != nil && !bytes.Equal(was, now) {
		s.Watch(bucket, name, was, now)
	}
}

func bodyOf(v *version) []byte {
	if v == nil {
		return nil
	}
	return v.body
}

// remove deletes an object, or one of its versions.
func (s *Server) remove(name, key, id string) {
	b := s.buckets[name]
	defer b.name(key)
	was := bodyOf(b.current(key))
	if id != "" {
		b.objects[key] = slices.DeleteFunc(b.objects[key], func(v version) bool { return v.id == id })
		if len(b.objects[key]) == 0 {
			delete(b.objects, key)
		}
		s.watch(name, key, was, bodyOf(b.current(key)))
		return
	}
	if was != nil {
		s.watch(name, key, was, nil)
		b.objects[key] = append(b.objects[key], version{id: s.id(), at: time.Now().UTC(), deleted: true})
	}
}

func (s *Server) deleteAll(name string, body []byte) (respond, *apiError) {
	var asked struct {
		Object []struct{ Key, VersionId string } //nolint:revive // as S3 spells it
	}
	if err := xml.Unmarshal(body, &asked); err != nil || len(asked.Object) > 1000 {
		return nil, failure(http.StatusBadRequest, "MalformedXML")
	}
	for _, o := range asked.Object {
		s.remove(name, o.Key, o.VersionId)
	}
	return encoded(struct {
		XMLName xml.Name `xml:"DeleteResult"`
	}{}), nil
}

func encoded(v any) respond {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/xml")
		_ = xml.NewEncoder(w).Encode(v) // whoever asked is gone
	}
}

type content struct {
	Key          string
	LastModified string
	ETag         string
	Size         int
}

type common struct{ Prefix string }

func (b *bucket) list(prefix, after, token, delimiter string, most int) (respond, *apiError) {
	answer := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Prefix                string
		KeyCount              int
		MaxKeys               int
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
		CommonPrefixes        []common
	}{Prefix: prefix, MaxKeys: most}
	names := b.names
	after = max(after, token)
	i, _ := slices.BinarySearch(names, prefix)
	if after >= prefix && after != "" {
		var there bool
		if i, there = slices.BinarySearch(names, after); there {
			i++
		}
	}
	folder := ""
	for ; i < len(names) && strings.HasPrefix(names[i], prefix); i++ {
		name := names[i]
		if delimiter != "" {
			if rest, _, cut := strings.Cut(name[len(prefix):], delimiter); cut {
				in := prefix + rest + delimiter
				if in == folder || after != "" && strings.HasPrefix(after, in) {
					continue
				}
				if answer.KeyCount == most {
					answer.IsTruncated = true
					break
				}
				folder = in
				answer.CommonPrefixes = append(answer.CommonPrefixes, common{in})
				answer.KeyCount++
				answer.NextContinuationToken = in + "\U0010FFFF"
				continue
			}
		}
		if answer.KeyCount == most {
			answer.IsTruncated = true
			break
		}
		v := b.current(name)
		answer.Contents = append(answer.Contents, content{name, v.at.Format(time.RFC3339Nano), v.etag, len(v.body)})
		answer.KeyCount++
		answer.NextContinuationToken = name
	}
	if !answer.IsTruncated {
		answer.NextContinuationToken = ""
	}
	return encoded(answer), nil
}

type versionEntry struct {
	XMLName      xml.Name
	Key          string
	VersionId    string //nolint:revive // as S3 spells it
	IsLatest     bool
	LastModified string
	Size         int
}

// versions lists all versions by name, the newest of each first.
func (b *bucket) versions(prefix, after, afterID string, most int) (respond, *apiError) {
	names := make([]string, 0, len(b.objects))
	for name := range b.objects {
		if strings.HasPrefix(name, prefix) && name >= after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	answer := struct {
		XMLName             xml.Name `xml:"ListVersionsResult"`
		Prefix              string
		IsTruncated         bool
		NextKeyMarker       string `xml:",omitempty"`
		NextVersionIdMarker string `xml:",omitempty"` //nolint:revive // as S3 spells it
		Entries             []versionEntry
	}{Prefix: prefix}
	for _, name := range names {
		all := b.objects[name]
		for i, v := range slices.Backward(all) {
			if name == after && (afterID == "" || v.id >= afterID) {
				continue
			}
			if len(answer.Entries) == most {
				answer.IsTruncated = true
				last := answer.Entries[most-1]
				answer.NextKeyMarker, answer.NextVersionIdMarker = last.Key, last.VersionId
				return encoded(answer), nil
			}
			e := versionEntry{XMLName: xml.Name{Local: "Version"}, Key: name, VersionId: v.id, IsLatest: i == len(all)-1, LastModified: v.at.Format(time.RFC3339Nano), Size: len(v.body)}
			if v.deleted {
				e.XMLName.Local = "DeleteMarker"
			}
			answer.Entries = append(answer.Entries, e)
		}
	}
	return encoded(answer), nil
}
