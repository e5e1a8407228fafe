package docs_test

import (
	"os"
	"strings"
	"testing"

	"backstop/internal/model"
)

// The page shows the model's actions, promises and planted faults as they are.
func TestGuaranteesShowsTheModel(t *testing.T) {
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, begins := strings.Cut(string(page), "<!-- model -->\n")
	shown, _, ends := strings.Cut(after, "<!-- /model -->")
	if want := model.Tables(); !begins || !ends || shown != want {
		t.Errorf("between <!-- model --> and <!-- /model --> guarantees.md should say:\n%s", want)
	}
}
