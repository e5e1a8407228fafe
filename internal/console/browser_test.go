//go:build full

package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"backstop/internal/console"
	"backstop/internal/local"
)

// binaries is where the functions and the CLI are built.
var binaries string

var build = sync.OnceValue(func() error {
	if err := local.Build(context.Background(), "../..", binaries); err != nil {
		return err
	}
	return local.BuildCLI(context.Background(), "../..", binaries)
})

// built returns the folder with the functions and the CLI. The first test that asks builds them: a test,
// and not TestMain, whose looks at the sources the go command would not count.
func built(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return binaries
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "backstop-console-"); err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(binaries) }()
	defer stopBrowser()
	return m.Run()
}

// chromium is the browser that all tests share; each has a profile of its own in it.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func startBrowser() (context.Context, error) {
	chromium.once.Do(func() {
		path, err := exec.LookPath("chromium")
		if err != nil {
			chromium.err = fmt.Errorf("%w: install it: apt-get install chromium", err)
			return
		}
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(),
			chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-extensions", true),
			chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("no-proxy-server", true), chromedp.WindowSize(1280, 900))
		ctx, stop := chromedp.NewContext(allocator)
		chromium.ctx, chromium.stop = ctx, func() { stop(); stopAllocator() }
		chromium.err = chromedp.Do(ctx)
	})
	return chromium.ctx, chromium.err
}

func stopBrowser() {
	if chromium.stop != nil {
		chromium.stop()
	}
}

// tab is a tab on a console. The page fails the test by anything that it must not do:
// an exception, a refusal by the Content-Security-Policy, a dialog of the page's own, a
// request to another server.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string

	mu     sync.Mutex
	faults []string
}

// patience bounds every wait for the page.
const patience = 30 * time.Second

// newTab opens a tab at the console's root, 1280 by 900, light.
func newTab(t *testing.T, consoleURL string) *tab {
	t.Helper()
	browser, err := startBrowser()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	p := &tab{t: t, ctx: ctx, url: consoleURL}
	if err := chromedp.Listen(ctx, p.watch); err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	p.ctx = bounded
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `addEventListener("securitypolicyviolation", (e) => console.error(e.violatedDirective, e.blockedURI, e.sample))`,
	})
	call(p, network.Enable, network.EnableParams{})
	p.look(1280, 900, "light")
	p.goTo("#/")
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			t.Errorf("in the page: %s", f)
		}
	})
	return p
}

// call runs a command of the DevTools protocol.
func call[P, R any](p *tab, cmd cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := chromedp.Call(p.ctx, cmd, params)
	if err != nil {
		p.t.Fatalf("%s: %v", cmd.Method, err)
	}
	return r
}

func (p *tab) watch(ev any) {
	fault := ""
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		fault = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" {
			fault = "console.error:"
			for _, a := range e.Args {
				fault += fmt.Sprintf(" %s%s", a.Value, a.Description)
			}
		}
	case *page.EventJavascriptDialogOpening:
		fault = "a dialog of the page: " + e.Message
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && "http://"+u.Host != p.url {
			fault = "a request to " + e.Request.URL
		}
	}
	if fault != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, fault)
	}
}

// goTo opens a view by its address.
func (p *tab) goTo(hash string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Navigate(p.url+"/"+hash)); err != nil {
		p.t.Fatal(err)
	}
	p.settled()
}

// settled waits until the view has loaded.
func (p *tab) settled() {
	p.t.Helper()
	p.wait("the view to load", `document.querySelector("main h1") && !document.querySelector("[aria-busy], .loading")`)
}

// eval evaluates an expression in the page.
func eval[T any](p *tab, js string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// wait polls until an expression is true.
func (p *tab) wait(what, js string) {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+js+")"))
		switch {
		case err == nil && ok:
			return
		case p.ctx.Err() != nil || time.Now().After(deadline):
			text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			p.t.Fatalf("waiting for %s (%s): %v; the page says:\n%s", what, js, err, text)
		}
	}
}

// says waits until the page's visible text has all of these.
func (p *tab) says(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.wait("the text "+quote(text), "document.body.innerText.includes("+quote(text)+")")
	}
}

// text is the visible text of the first element that a selector finds.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, "document.querySelector("+quote(selector)+")?.innerText ?? ''")
}

// named is an expression for the visible element that a selector finds and that has an
// accessible name; in a dialog only, when one is open.
func named(selector, name string) string {
	return fmt.Sprintf(`[...(document.querySelector("dialog[open]") ?? document).querySelectorAll(%s)].find((e) =>
		e.checkVisibility() && ((e.getAttribute("aria-label") ?? e.labels?.[0]?.innerText ?? e.innerText).replace(/\s+/g, " ").trim() === %s))`, quote(selector), quote(name))
}

// click clicks, with the mouse, the element that named finds.
func (p *tab) click(selector, name string) {
	p.t.Helper()
	p.mouse(chromedp.MouseClickXY(p.where(selector, name)))
}

func (p *tab) mouse(a chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, a); err != nil {
		p.t.Fatal(err)
	}
}

// where is where to click the element that named finds, once nothing is being drawn anew, nor about to be by a dialog that was
// just closed: that would move it from under the mouse.
func (p *tab) where(selector, name string) (x, y float64) {
	p.t.Helper()
	target := named(selector, name)
	p.wait(selector+" "+quote(name), `!document.querySelector("main [aria-busy], dialog:not([open])") && `+target)
	at := eval[[2]float64](p, `(() => { const e = `+target+`; e.scrollIntoView({ block: "center" });
		const r = e.getBoundingClientRect(); return [r.x + Math.min(r.width, 20) / 2, r.y + r.height / 2]; })()`)
	return at[0], at[1]
}

// typeIn clicks a field by its label and types.
func (p *tab) typeIn(label, text string) {
	p.t.Helper()
	p.click("input", label)
	p.keys(text)
}

func (p *tab) keys(keys string, o ...chromedp.KeyOption) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.KeyEvent(keys, o...)); err != nil {
		p.t.Fatal(err)
	}
}

// choose chooses an option of a select by its label.
func (p *tab) choose(label, option string) {
	p.t.Helper()
	p.wait("the field "+label, `[...document.querySelectorAll("label")].some((l) => l.childNodes[0].textContent.trim() === `+quote(label)+`)`)
	eval[bool](p, fmt.Sprintf(`(() => { const s = [...document.querySelectorAll("label")].findLast((l) => l.childNodes[0].textContent.trim() === %s).control;
		s.value = [...s.options].find((o) => o.label === %s).value; s.dispatchEvent(new Event("change", { bubbles: true })); return true; })()`, quote(label), quote(option)))
}

// look sets the viewport and the color scheme. Narrow viewports are those of phones.
func (p *tab) look(width, height int64, scheme string) {
	p.t.Helper()
	var o []chromedp.EmulateViewportOption
	if width < 500 {
		o = append(o, chromedp.EmulateScale(2), chromedp.EmulateMobile)
	}
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height, o...)); err != nil {
		p.t.Fatal(err)
	}
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
}

// screenshots is where tests leave pictures of the views.
const screenshots = "../../build/screenshots"

// picture writes a picture of what the viewport shows.
func (p *tab) picture(name string) {
	p.t.Helper()
	b, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(screenshots, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(screenshots, name+".png"), b, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// accessible checks what is shown with axe-core. Of a table it checks the first rows: the
// others are made alike, and cost time.
func (p *tab) accessible(what string) {
	p.t.Helper()
	if !eval[bool](p, "typeof axe === 'object'") {
		b, err := os.ReadFile("testdata/axe.min.js")
		if err != nil {
			p.t.Fatal(err)
		}
		if err := chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](string(b))); err != nil {
			p.t.Fatal(err)
		}
	}
	report := eval[string](p, `axe.run({ exclude: ["tbody tr:nth-child(n+9)"] }, { resultTypes: ["violations"] }).then((r) => JSON.stringify({ checked: r.passes.length, violations: r.violations.map((v) =>
		({ rule: v.id, impact: v.impact, help: v.help, where: v.nodes.map((n) => n.target.join(" ") + ": " + n.failureSummary) })) }))`)
	var r struct {
		Checked    int
		Violations []struct {
			Rule, Impact, Help string
			Where              []string
		}
	}
	if err := json.Unmarshal([]byte(report), &r); err != nil {
		p.t.Fatal(err)
	}
	if r.Checked < 10 {
		p.t.Errorf("%s: only %d rules of axe-core passed; did it see the page?", what, r.Checked)
	}
	for _, v := range r.Violations {
		p.t.Errorf("%s: %s violation of %s (%s):\n%s", what, v.Impact, v.Rule, v.Help, strings.Join(v.Where, "\n"))
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// start starts a console for an API.
func start(t *testing.T, api string) *console.Server {
	t.Helper()
	s, err := console.Start(t.Context(), "", console.Options{API: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
