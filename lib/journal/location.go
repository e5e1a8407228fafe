package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Location is where a bucket is: what BACKSTOP_JOURNAL says. The zero value is none.
type Location struct {
	folder         string
	bucket, prefix string // the prefix ends in a slash, or is empty
}

const locationForm = "want s3://bucket/prefix or file:/folder"

// ParseLocation reads where a bucket is:
//
//	s3://bucket/prefix   objects of an S3 bucket whose names begin with prefix/
//	s3://bucket          all objects of an S3 bucket
//	file:/folder         a folder (Folder), relative to the working directory without its slash
//
// No I/O is done.
func ParseLocation(spec string) (Location, error) {
	l, err := parseLocation(spec)
	if err != nil {
		return Location{}, fmt.Errorf("%.200q: %w", spec, err)
	}
	return l, nil
}

func parseLocation(spec string) (Location, error) {
	scheme, rest, ok := strings.Cut(spec, ":")
	switch {
	case ok && scheme == "file":
		return folderLocation(rest)
	case ok && scheme == "s3":
		return s3Location(rest)
	case ok && strings.HasPrefix(rest, "//"):
		return Location{}, fmt.Errorf("scheme %.20q; %s", scheme, locationForm)
	}
	return Location{}, errors.New(locationForm)
}

func folderLocation(path string) (Location, error) {
	rest, url := strings.CutPrefix(path, "//")
	switch {
	case path == "" || path == "//":
		return Location{}, errors.New("no folder; " + locationForm)
	case strings.ContainsRune(path, 0):
		return Location{}, errors.New("a folder's name has no NUL")
	case url && !strings.HasPrefix(rest, "/"):
		return Location{}, errors.New("a folder has no host; write file:/folder")
	}
	clean := filepath.Clean(path)
	if clean == filepath.Dir(clean) {
		return Location{}, errors.New("it needs a folder of its own")
	}
	return Location{folder: clean}, nil
}

func s3Location(path string) (Location, error) {
	path, ok := strings.CutPrefix(path, "//")
	if !ok {
		return Location{}, errors.New("want s3://bucket/prefix, with two slashes before the bucket's name")
	}
	bucket, prefix, _ := strings.Cut(path, "/")
	switch {
	case bucket == "":
		return Location{}, errors.New("no bucket; want s3://bucket/prefix")
	case strings.HasPrefix(bucket, "arn:"):
		return Location{}, errors.New("an ARN; write the bucket's name, or an access point's alias")
	case strings.HasSuffix(bucket, "--x-s3"):
		return Location{}, errors.New("a directory bucket (S3 Express) lists its objects in no order, and stands in one zone; use a general purpose bucket")
	case !isBucketName(bucket):
		return Location{}, fmt.Errorf("%.80q cannot be a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens", bucket)
	}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix == "" {
		return Location{bucket: bucket}, nil
	}
	if len(prefix) > maxPrefix {
		return Location{}, fmt.Errorf("the prefix has %d bytes; at most %d are taken", len(prefix), maxPrefix)
	}
	if err := checkParts(prefix); err != nil {
		return Location{}, fmt.Errorf("prefix: %w", err)
	}
	return Location{bucket: bucket, prefix: prefix + "/"}, nil
}

// isBucketName knows what S3 takes since 2018; what older buckets of us-east-1 are called besides it
// does not.
func isBucketName(name string) bool {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`).MatchString(name) && !strings.Contains(name, "..")
}

// IsZero reports whether l says of no bucket.
func (l Location) IsZero() bool { return l == Location{} }

// String returns the location as ParseLocation takes it; empty for none.
func (l Location) String() string {
	switch {
	case l.folder != "":
		return "file:" + l.folder
	case l.bucket != "":
		return strings.TrimSuffix("s3://"+l.bucket+"/"+l.prefix, "/")
	}
	return ""
}

// Open returns the bucket at a location; see ParseLocation. It does no I/O: a bucket that is not
// there says so at the first call.
func Open(spec string, o S3Options) (Bucket, error) {
	l, err := ParseLocation(spec)
	if err != nil {
		return nil, err
	}
	return l.Open(o), nil
}

// Open returns the bucket at a location that ParseLocation gave. The options are for one on S3.
func (l Location) Open(o S3Options) Bucket {
	if l.folder != "" {
		return NewFolder(l.folder)
	}
	return NewS3(l.bucket, l.prefix, o)
}
