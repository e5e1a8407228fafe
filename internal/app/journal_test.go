package app

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"backstop/internal/locals3"
)

func TestTheJournalDecidesWhatBecomesOfOverflow(t *testing.T) {
	for _, c := range []struct{ journal, overflow, want string }{
		{"", "", "reject"},
		{"", "reject", "reject"},
		{"", "trim", "trim"},
		{"s3://letters/prod", "", "spill"},
		{"s3://letters/prod", "spill", "spill"},
		{"file:/var/lib/journal", "", "spill"},
		{"file:/var/lib/journal\n", "reject", "reject"},
		{"file:/var/lib/journal", "trim", "trim"},
	} {
		e, err := ReadEnv(env(minimal("BACKSTOP_JOURNAL", c.journal, "BACKSTOP_DLQ_OVERFLOW", c.overflow)))
		if err != nil || e.DLQOverflow != c.want || e.Journal.String() != strings.TrimSpace(c.journal) {
			t.Errorf("journal %q, overflow %q: journal %q, overflow %q, %v, want %q", c.journal, c.overflow, e.Journal, e.DLQOverflow, err, c.want)
		}
	}
}

func TestABadJournalIsRefused(t *testing.T) {
	for _, c := range []struct{ journal, overflow, want string }{
		{"letters", "", `BACKSTOP_JOURNAL: "letters": want s3://bucket/prefix or file:/folder`},
		{"s3://", "", "BACKSTOP_JOURNAL: \"s3://\": no bucket"},
		{"file:", "", "BACKSTOP_JOURNAL: \"file:\": no folder"},
		{"", "spill", "BACKSTOP_DLQ_OVERFLOW: spill needs BACKSTOP_JOURNAL"},
		{"s3://letters", "drop", "BACKSTOP_DLQ_OVERFLOW: \"drop\"; want spill, reject or trim"},
	} {
		if _, err := ReadEnv(env(minimal("BACKSTOP_JOURNAL", c.journal, "BACKSTOP_DLQ_OVERFLOW", c.overflow))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("journal %q, overflow %q: %v, want %q", c.journal, c.overflow, err, c.want)
		}
	}
	// One fault is told once: a bad journal is still one, to spill to.
	if _, err := ReadEnv(env(minimal("BACKSTOP_JOURNAL", "letters", "BACKSTOP_DLQ_OVERFLOW", "spill"))); err == nil || strings.Contains(err.Error(), "BACKSTOP_DLQ_OVERFLOW") {
		t.Errorf("a bad journal and spill: %v, want the journal's fault alone", err)
	}
}

func TestTheBucketIsTheJournals(t *testing.T) {
	if b := newBucket(Env{}, awsTest); b != nil {
		t.Errorf("without a journal there is %v", b)
	}
	s3 := locals3.New("letters")
	srv := httptest.NewServer(s3)
	t.Cleanup(srv.Close)
	loads := 0
	loadAWS := func() (aws.Config, error) {
		loads++
		cfg, err := awsTest()
		cfg.BaseEndpoint = &srv.URL
		return cfg, err
	}
	for _, where := range []string{"s3://letters/prod", "file:" + filepath.Join(t.TempDir(), "journal")} {
		e, err := ReadEnv(env(minimal("BACKSTOP_JOURNAL", where)))
		if err != nil {
			t.Fatal(err)
		}
		b := newBucket(e, loadAWS)
		if where == "s3://letters/prod" && loads != 0 {
			t.Error("AWS was loaded before the first call")
		}
		if err := b.Put(t.Context(), "a", []byte("x")); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		if objects, _, err := b.List(t.Context(), "", "", 0); err != nil || len(objects) != 1 || objects[0].Name != "a" {
			t.Errorf("%s: %v, %v", where, objects, err)
		}
	}
	if got := s3.Names("letters", ""); len(got) != 1 || got[0] != "prod/a" || loads != 1 {
		t.Errorf("S3 has %q; AWS was loaded %d times", got, loads)
	}
}
