package journal

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// pageSize is the most objects in one list, and the most names in one call of Delete.
const pageSize = 1000

// maxName is the length of the longest name, in bytes, and maxPrefix that of a bucket's prefix: S3
// takes 1,024 of both.
const (
	maxName   = 768
	maxPrefix = 255
)

// checkName returns an error unless name can be an object's in every Bucket: parts that are not
// empty and lead nowhere else, with slashes between.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("name %.80q... has %d bytes; at most %d are taken", name, len(name), maxName)
	}
	if err := checkParts(name); err != nil {
		return fmt.Errorf("name %.200q: %w", name, err)
	}
	if name == ownFolder || strings.HasPrefix(name, ownFolder+"/") {
		return fmt.Errorf("name %.200q: %s is the bucket's own", name, ownFolder)
	}
	return nil
}

func checkParts(path string) error {
	if !utf8.ValidString(path) {
		return errors.New("it is no UTF-8")
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return errors.New("a part of it is empty, . or .., which lead elsewhere")
		}
	}
	for _, r := range path {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("it has the control character %U", r)
		}
	}
	return nil
}

// checkNames is checkName for all that one call of Delete takes.
func checkNames(names []string) error {
	if len(names) > pageSize {
		return fmt.Errorf("%d names; one call takes %d", len(names), pageSize)
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// checkFolder returns an error unless prefix is empty or a folder's.
func checkFolder(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("prefix %.200q does not end in a slash", prefix)
	}
	return checkName(strings.TrimSuffix(prefix, "/"))
}
