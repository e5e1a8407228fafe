//go:build full

package stack_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"backstop/internal/app"
)

var (
	all      = functions
	senders  = []string{"SendFunction", "QueueFunction"}
	operator = []string{"DlqApiFunction"}
)

// needs lists the functions that need a variable, and says why the others do not.
var needs = map[string][]string{
	"BACKSTOP_SERVICE":         all,
	"BACKSTOP_SINKS":           all, // replays send too
	"BACKSTOP_SINKS_TTL":       all,
	"BACKSTOP_REDIS_URL":       all,
	"BACKSTOP_REDIS_CLUSTER":   all,
	"BACKSTOP_REDIS_PASSWORD":  all,
	"BACKSTOP_REDIS_IAM_USER":  all,
	"BACKSTOP_REDIS_IAM_CACHE": all,
	"BACKSTOP_KEY_PREFIX":      all,
	"BACKSTOP_RESERVE":         all,
	"BACKSTOP_CONCURRENCY":     all, // also the size of the connection pool
	"HTTP_PROXY":               all,
	"HTTPS_PROXY":              all,
	"NO_PROXY":                 all,
	"BACKSTOP_DLQ_MAX_LEN":     all, // the schedule pushes what comes back from the journal
	"BACKSTOP_DLQ_OVERFLOW":    all,
	"BACKSTOP_MAX_BODY_BYTES":  senders,
	"BACKSTOP_SINK_METRICS":    all,
	"BACKSTOP_LOG_SUCCESSES":   senders,                           // lines of replays are no plain successes
	"BACKSTOP_IDEMPOTENCY_TTL": all,                               // who makes records: so do a cancellation, and what comes back from the journal
	"BACKSTOP_QUEUE_URL":       {"SendFunction", "QueueFunction"}, // the others put nothing there
	"BACKSTOP_JOURNAL":         all,                               // who pushes, removes, restores
	"BACKSTOP_REPLAY_FUNCTION": operator,                          // to start bulk operations early
	"BACKSTOP_REPLAYERS":       {"ReplayFunction"},                // whom a tick may start
	"BACKSTOP_LOCAL":           nil,                               // allows memory instead of Redis
	"BACKSTOP_FORWARD_TO":      nil,                               // the local host forwards
	// A FIFO group is held until the queue's last receive.
	"BACKSTOP_QUEUE_MAX_RECEIVES": {"QueueFunction"},
}

// sometimes are variables that only some parameters set.
var sometimes = []string{
	"BACKSTOP_REDIS_PASSWORD", "BACKSTOP_REDIS_IAM_USER", "BACKSTOP_REDIS_IAM_CACHE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "BACKSTOP_JOURNAL",
}

// namesRead returns the variables that internal/app names in its code.
func namesRead(t *testing.T) []string {
	t.Helper()
	name := regexp.MustCompile(`^(BACKSTOP_[A-Z_]+|HTTPS?_PROXY|NO_PROXY)$`)
	files, err := filepath.Glob(filepath.Join("..", "..", "internal", "app", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if s, err := strconv.Unquote(l.Value); err == nil && name.MatchString(s) && !slices.Contains(names, s) {
					names = append(names, s)
				}
			}
			return true
		})
	}
	slices.Sort(names)
	return names
}

func TestEveryVariableThatIsReadIsSetWhereItIsNeededAndNowhereElse(t *testing.T) {
	if got, want := namesRead(t), sorted(needs); !slices.Equal(got, want) {
		t.Errorf("internal/app reads\n%q, and this test knows\n%q; decide who needs the difference", got, want)
	}
	set := map[string]map[string]bool{} // by function, in any variant
	for variant, params := range variants {
		s := resolve(t, params)
		for _, f := range functions {
			env := obj(at(s.Resources[f].Properties, "Environment", "Variables"))
			if set[f] == nil {
				set[f] = map[string]bool{}
			}
			for name, value := range env {
				set[f][name] = true
				if !slices.Contains(needs[name], f) {
					t.Errorf("%s: %s has %s, which it does not need", variant, f, name)
				}
				if text(value) == "" {
					t.Errorf("%s: %s has an empty %s (%v)", variant, f, name, value)
				}
			}
			for name, who := range needs {
				if _, ok := env[name]; !ok && slices.Contains(who, f) && !slices.Contains(sometimes, name) {
					t.Errorf("%s: %s lacks %s", variant, f, name)
				}
			}
		}
	}
	for name, who := range needs {
		for _, f := range who {
			if !set[f][name] {
				t.Errorf("no parameter sets %s of %s", name, f)
			}
		}
	}
}

func TestTheFunctionsAcceptTheirEnvironment(t *testing.T) {
	eachVariant(t, func(t *testing.T, s stack) {
		for _, f := range functions {
			env := s.environment(f)
			e, err := app.ReadEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
			if err != nil {
				t.Errorf("%s: %v", f, err)
			}
			if e.Service != stackName || e.Local || e.RedisURL == nil {
				t.Errorf("%s: %+v", f, e)
			}
		}
	})
}

// environment returns a function's variables.
func (s stack) environment(function string) map[string]string {
	env := map[string]string{}
	for name, v := range obj(at(s.Resources[function].Properties, "Environment", "Variables")) {
		env[name] = text(v)
	}
	return env
}
