package conform

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"backstop/internal/model"
)

// elsewhere are scripts that no run that is checked calls, by why: a call of one does not conform.
var elsewhere = map[string]string{
	"dlq/room.lua":      "no sink has several queues",
	"dlq/supersede.lua": "nobody edits", "dlq/superseded.lua": "nobody edits", "dlq/retire.lua": "nothing is so old",
}

// Every script is followed, changes nothing that is, or is known not to be called.
func TestEveryScriptIsFollowedOrKnownNotToBe(t *testing.T) {
	for name, file := range named {
		homes := 0
		for _, in := range []bool{followed[file] != nil, model.Scripts[file] == model.Read && followed[file] == nil, slices.Contains(beside, file), elsewhere[file] != ""} {
			if in {
				homes++
			}
		}
		if homes != 1 {
			t.Errorf("%s (%s) has %d homes, want one", file, model.Scripts[file], homes)
		}
		text, err := os.ReadFile(filepath.Join("../../lib", file))
		if err != nil {
			t.Fatal(err)
		}
		if _, found := ScriptName(string(text)); found != file && elsewhere[file] == "" {
			t.Errorf("lib/%s is taken for %q: its first line must begin with %q", file, found, "-- "+name+".lua:")
		}
	}
	if left := len(followed) + len(elsewhere); left > len(named) {
		t.Errorf("%d scripts have homes, of %d", left, len(named))
	}
	for _, p := range joined {
		if _, ok := model.Scripts[p+".lua"]; !ok {
			t.Errorf("%s is no script", p)
		}
	}
}

// What the events of records are counted as are the model's actions of their script.
func TestEventsAreActions(t *testing.T) {
	actions := strings.Split(model.Scripts["delivery/move.lua"], ", ")
	for event, action := range moves {
		if !slices.Contains(actions, action) {
			t.Errorf("%s is counted as %q, and the script's actions are %q", event, action, actions)
		}
	}
}
