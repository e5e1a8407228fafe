//go:build full

package stack_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"backstop/internal/moto"
)

// heard is an emulator that notes which actions of SSM were called.
type heard struct {
	mu      sync.Mutex
	actions map[string]bool
	next    http.Handler
}

func (h *heard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.actions["ssm:"+strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")] = true
	h.mu.Unlock()
	h.next.ServeHTTP(w, r)
}

// The page on deploying pushes a folder of one's own, as it stands there, with the rights that it
// names; the samples are refused.
func TestAFolderOfOnesOwnIsPushed(t *testing.T) {
	t.Parallel()
	cli, dir := buildCLI(t), t.TempDir()
	emulator, err := url.Parse(moto.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{actions: map[string]bool{}, next: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(emulator) }}}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	env := []string{
		"PATH=" + cli + ":" + os.Getenv("PATH"), "AWS_ENDPOINT_URL_SSM=" + srv.URL, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
	page := read(t, "docs", "deploy.md")
	_, section, _ := strings.Cut(page, "### Configure sinks")
	section, _, _ = strings.Cut(section, "\n### ")
	file := regexp.MustCompile("(?s)```yaml\n# (sinks/[a-z-]+\\.yaml)\n(.*?)```").FindStringSubmatch(section)
	if file == nil {
		t.Fatal("the section shows no sink")
	}
	path := filepath.Join(dir, file[1])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(file[2]), 0o600); err != nil {
		t.Fatal(err)
	}

	secret := []byte("https://hooks.slack.com/services/T0A1/B0C2/d3E4f5\n")
	if err := os.WriteFile(filepath.Join(dir, "slack-webhook-url.txt"), secret, 0o600); err != nil {
		t.Fatal(err)
	}

	scratch := filepath.Join(t.TempDir(), "section.md")
	if err := os.WriteFile(scratch, []byte(section), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(root, scratch)
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("aws ssm", "aws --endpoint-url "+emulator.String()+" ssm", "config push sinks", "config push --yes sinks")
	ran := 0
	for _, c := range documentedCommands(t, rel) {
		if strings.HasPrefix(c.line, "go build ") {
			continue // buildCLI does it
		}
		ran++
		shell(t, "cd "+dir+" && "+fill.Replace(c.line), env...)
	}
	if ran != 4 {
		t.Errorf("%d commands, want 4", ran)
	}
	out, err := ssm.New(ssm.Options{Region: region, BaseEndpoint: aws.String(emulator.String()), Credentials: key("reader")}).
		GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/backstop/dev/sinks/ops-slack"), WithDecryption: aws.Bool(true)})
	if err != nil || out.Parameter.Type != ssmtypes.ParameterTypeSecureString || aws.ToString(out.Parameter.Value) != file[2] {
		t.Fatalf("%+v, %v, want what the page shows, encrypted", out, err)
	}
	refused(t, "backstop config push --yes config/sinks ssm:/backstop/dev/sinks", "placeholder", env...)

	if err := os.WriteFile(filepath.Join(dir, "sinks", "other.yaml"), []byte(file[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	shell(t, "cd "+dir+" && backstop config push --prune --yes sinks ssm:/backstop/dev/sinks", env...)
	if err := os.WriteFile(filepath.Join(dir, "all.yaml"), []byte("sinks:\n  other:\n    kind: webhook\n    url: https://hooks.acme-shipping.com/orders\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, "cd "+dir+" && backstop config push --yes all.yaml ssm:/backstop/dev/all", env...)

	_, row, _ := strings.Cut(page, "| who configures sinks |")
	row, _, _ = strings.Cut(row, "\n")
	var named []string
	for _, m := range regexp.MustCompile("`(ssm:[A-Z][A-Za-z]+)`").FindAllStringSubmatch(row, -1) {
		named = append(named, m[1])
	}
	called := sorted(h.actions)
	for _, action := range called {
		if !slices.Contains(named, action) {
			t.Errorf("%s was called; the page does not name it", action)
		}
	}
	for _, action := range named {
		if !slices.Contains(called, action) {
			t.Errorf("the page names %s, which nothing called", action)
		}
	}
}
