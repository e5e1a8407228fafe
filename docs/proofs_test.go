package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A promise rests on a test that exists.
func TestTheTestsThatGuaranteesNamesExist(t *testing.T) {
	var page []byte
	for _, name := range []string{"guarantees.md", "privacy.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page = append(page, b...)
	}
	named := regexp.MustCompile("`((?:lib|functions|internal)[a-z/-]*)`\\s+(Test\\w+(?:,\\s+Test\\w+)*)").FindAllStringSubmatch(string(page), -1)
	if len(named) < 10 {
		t.Fatalf("%d packages with tests were found: the page is written in another way", len(named))
	}
	for _, m := range named {
		files, err := filepath.Glob(filepath.Join("..", m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var source strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(m[2], -1) {
			if !strings.Contains(source.String(), "func "+name+"(") {
				t.Errorf("%s has no %s", m[1], name)
			}
		}
	}
}
