package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// decode reads a YAML file into v, strictly.
func decode(t *testing.T, file string, v any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// workflow is what of a workflow's form we use. A key that is not here is one to think about.
type workflow struct {
	Name        string            `yaml:"name"`
	On          map[string]any    `yaml:"on"`
	Permissions map[string]string `yaml:"permissions"`
	Concurrency map[string]string `yaml:"concurrency"`
	Jobs        map[string]struct {
		Name     string `yaml:"name"`
		RunsOn   string `yaml:"runs-on"`
		Timeout  int    `yaml:"timeout-minutes"`
		Strategy struct {
			FailFast bool                `yaml:"fail-fast"`
			Matrix   map[string][]string `yaml:"matrix"`
		} `yaml:"strategy"`
		Steps []struct {
			Uses string         `yaml:"uses"`
			If   string         `yaml:"if"`
			With map[string]any `yaml:"with"`
			Run  string         `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"jobs"`
}

// The workflow of the forge is a caller of make targets: whatever it runs can be run on a desk.
func TestTheWorkflowRunsMakeTargetsAlone(t *testing.T) {
	var w workflow
	decode(t, "../.github/workflows/ci.yml", &w)
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("permissions %v, want to read the content and no more", w.Permissions)
	}
	const installs = `sudo env "PATH=$PATH" make ` // as root, with the tools that the steps before have set up
	makefile := read(t, "../Makefile")
	var ran []string
	for name, job := range w.Jobs {
		if job.Timeout == 0 {
			t.Errorf("job %s may run for ever", name)
		}
		for _, step := range job.Steps {
			switch {
			case step.Uses != "":
				if !regexp.MustCompile(`^actions/[a-z-]+@v\d+$`).MatchString(step.Uses) {
					t.Errorf("%s is not one of the forge's own actions, by its major version", step.Uses)
				}
			case step.Run == "make ${{ matrix.target }}":
				ran = append(ran, job.Strategy.Matrix["target"]...)
			case strings.HasPrefix(step.Run, installs+"deps"):
				ran = append(ran, strings.TrimPrefix(step.Run, installs))
			case step.Run == "pip install -r scripts/requirements.txt":
			default:
				t.Errorf("%s: %q is no make target", name, step.Run)
			}
		}
	}
	targets := matches(`(?m)^([a-z-]+):`, makefile)
	for _, run := range ran {
		if target, _, _ := strings.Cut(run, " "); !slices.Contains(targets, target) {
			t.Errorf("the Makefile has no target %s", target)
		}
	}
	for _, target := range matches(`(?m)^[^#\n]*\bmake ([a-z-]+)`, read(t, "../.ci/run")) {
		if !slices.ContainsFunc(ran, func(run string) bool { return run == target || strings.HasPrefix(run, target+" ") }) {
			t.Errorf(".ci/run runs make %s, and the workflow does not", target)
		}
	}
}

// A module that is forgotten keeps its old dependencies.
func TestEveryModuleIsKeptUpToDate(t *testing.T) {
	var d struct {
		Version int `yaml:"version"`
		Updates []struct {
			Ecosystem   string                    `yaml:"package-ecosystem"`
			Directory   string                    `yaml:"directory"`
			Directories []string                  `yaml:"directories"`
			Schedule    map[string]string         `yaml:"schedule"`
			Ignore      []map[string]string       `yaml:"ignore"`
			Groups      map[string]map[string]any `yaml:"groups"`
		} `yaml:"updates"`
	}
	decode(t, "../.github/dependabot.yml", &d)
	watched := map[string][]string{}
	held := map[string]bool{}
	for _, u := range d.Updates {
		watched[u.Ecosystem] = append(append(watched[u.Ecosystem], u.Directories...), u.Directory)
		for _, i := range u.Ignore {
			held[i["dependency-name"]] = true
		}
	}
	if !slices.Contains(watched["github-actions"], "/") || !slices.Contains(watched["pip"], "/scripts") {
		t.Errorf("watched: %v, want the actions and scripts/requirements.txt too", watched)
	}
	modules := 0
	err := filepath.WalkDir("..", func(file string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "build" || e.Name() == "testdata" || e.Name() == ".git" || e.Name() == ".aws-sam"):
			return fs.SkipDir
		case e.Name() != "go.mod":
			return nil
		}
		modules++
		dir := path.Join("/", filepath.ToSlash(filepath.Dir(strings.TrimPrefix(file, ".."))))
		if !slices.ContainsFunc(watched["gomod"], func(pattern string) bool {
			ok, err := path.Match(pattern, dir)
			return ok && err == nil
		}) {
			t.Errorf("%s is watched by none of %q", dir, watched["gomod"])
		}
		return nil
	})
	if err != nil || modules < 3 {
		t.Errorf("%d modules, %v", modules, err)
	}
	pinned := matches(`(?m)// The last version that .*\n\t(\S+) v`, read(t, "../go.mod"))
	same(t, "dependabot.yml, ignore", slices.Collect(maps.Keys(held)), pinned)
}

// The forge drops a form that it cannot read, and says so to nobody.
func TestTheIssueFormsAreForms(t *testing.T) {
	files, err := filepath.Glob("../.github/ISSUE_TEMPLATE/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	forms := 0
	for _, file := range files {
		if filepath.Base(file) == "config.yml" {
			continue
		}
		forms++
		var form struct {
			Name        string `yaml:"name"`
			Description string `yaml:"description"`
			Body        []struct {
				Type       string `yaml:"type"`
				ID         string `yaml:"id"`
				Attributes struct {
					Label       string   `yaml:"label"`
					Description string   `yaml:"description"`
					Placeholder string   `yaml:"placeholder"`
					Render      string   `yaml:"render"`
					Value       string   `yaml:"value"`
					Options     []string `yaml:"options"`
					Multiple    bool     `yaml:"multiple"`
				} `yaml:"attributes"`
				Validations map[string]bool `yaml:"validations"`
			} `yaml:"body"`
		}
		decode(t, file, &form)
		if form.Name == "" || form.Description == "" {
			t.Errorf("%s has no name or no description", file)
		}
		seen := map[string]bool{}
		for _, field := range form.Body {
			a := field.Attributes
			ok := a.Label != "" && field.ID != "" && !seen[field.ID]
			switch field.Type {
			case "markdown":
				ok = a.Value != ""
			case "textarea", "input":
			case "dropdown":
				distinct := slices.Compact(slices.Sorted(slices.Values(a.Options)))
				ok = ok && len(distinct) > 0 && len(distinct) == len(a.Options)
			default:
				ok = false
			}
			if !ok {
				t.Errorf("%s: the field %+v is none", file, field)
			}
			seen[field.ID] = true
		}
		if len(seen) == 0 {
			t.Errorf("%s asks nothing", file)
		}
	}
	if forms < 2 {
		t.Errorf("%d forms", forms)
	}
}
