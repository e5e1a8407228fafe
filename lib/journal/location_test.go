package journal_test

import (
	"strings"
	"testing"

	"backstop/lib/journal"
)

func TestALocationIsReadAsItIsWritten(t *testing.T) {
	for spec, want := range map[string]string{
		"s3://letters/backstop/prod":  "s3://letters/backstop/prod",
		"s3://letters/backstop/prod/": "s3://letters/backstop/prod",
		"s3://letters":                "s3://letters",
		"s3://letters/":               "s3://letters",
		"s3://my.letters-1/a b":       "s3://my.letters-1/a b",
		"file:/var/lib/journal":       "file:/var/lib/journal",
		"file:/var//lib/journal/":     "file:/var/lib/journal",
		"file:///var/lib/journal":     "file:/var/lib/journal",
		"file:build/journal":          "file:build/journal",
		"file:./journal":              "file:journal",
		"file:../journal":             "file:../journal",
	} {
		l, err := journal.ParseLocation(spec)
		if err != nil || l.String() != want || l.IsZero() {
			t.Errorf("%q = %q, %v, want %q", spec, l, err, want)
			continue
		}
		if again, err := journal.ParseLocation(l.String()); err != nil || again != l {
			t.Errorf("%q reads as %q, %v", l, again, err)
		}
	}
	if none := (journal.Location{}); !none.IsZero() || none.String() != "" {
		t.Errorf("the zero value is %q", none)
	}
}

func TestABadLocationIsRefusedByItsCause(t *testing.T) {
	for spec, want := range map[string]string{
		"":                                "want s3://bucket/prefix or file:/folder",
		"letters":                         "want s3://bucket/prefix or file:/folder",
		"/var/lib/journal":                "want s3://bucket/prefix or file:/folder",
		"S3://letters":                    `scheme "S3"`,
		"gs://letters/a":                  `scheme "gs"`,
		"https://s3.test/letters":         `scheme "https"`,
		"s3:letters/a":                    "two slashes",
		"s3:/letters/a":                   "two slashes",
		"s3://":                           "no bucket",
		"s3:///a":                         "no bucket",
		"s3://Letters/a":                  "cannot be a bucket's name",
		"s3://le/a":                       "cannot be a bucket's name",
		"s3://le..tters":                  "cannot be a bucket's name",
		"s3://-letters":                   "cannot be a bucket's name",
		"s3://letters-":                   "cannot be a bucket's name",
		"s3://key:secret@letters":         "cannot be a bucket's name",
		"s3://" + strings.Repeat("x", 64): "cannot be a bucket's name",
		"s3://letters--use1-az4--x-s3/a":  "a directory bucket",
		"s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/letters": "an ARN",
		"s3://letters//a":                          "a part of it is empty",
		"s3://letters/a//b":                        "a part of it is empty",
		"s3://letters/../b":                        "which lead elsewhere",
		"s3://letters/a\nb":                        "control character U+000A",
		"s3://letters/\xff":                        "no UTF-8",
		"s3://letters/" + strings.Repeat("x", 256): "at most 255",
		"file:":              "no folder",
		"file://":            "no folder",
		"file://host/folder": "a folder has no host",
		"file:/":             "a folder of its own",
		"file:.":             "a folder of its own",
		"file:a\x00b":        "NUL",
	} {
		if l, err := journal.ParseLocation(spec); err == nil || !strings.Contains(err.Error(), want) || !l.IsZero() {
			t.Errorf("%q = %q, %v, want an error with %q", spec, l, err, want)
		}
	}
}
