package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tables are the actions, the promises and the planted faults, as docs/guarantees.md shows them.
func Tables() string {
	var b strings.Builder
	b.WriteString("| action | what happens | scripts |\n|---|---|---|\n")
	for _, a := range Actions {
		var scripts []string
		for _, path := range slices.Sorted(maps.Keys(Scripts)) {
			if slices.Contains(strings.Split(Scripts[path], ", "), a.Name) {
				scripts = append(scripts, "`"+strings.TrimSuffix(path, ".lua")+"`")
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", a.Name, a.Text, strings.Join(scripts, ", "))
	}
	b.WriteString("\n| promise | what must hold in every state |\n|---|---|\n")
	for p := Kept + 1; p < promises; p++ {
		fmt.Fprintf(&b, "| `%v` | %s |\n", p, promiseTexts[p].text)
	}
	b.WriteString("\n| the rule that is taken away | what is broken then |\n|---|---|\n")
	for _, f := range Faults {
		fmt.Fprintf(&b, "| %s | `%v` |\n", ruleTexts[f.Rule].text, f.Breaks)
	}
	return b.String()
}
