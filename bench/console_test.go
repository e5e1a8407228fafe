package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"backstop/internal/console"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

const (
	visits       = 21
	consoleSinks = 5
	consoleDepth = 100_000
)

// watch notes, in ms since the navigation began, when the browser had painted the first row that the API
// told of, and when nothing of the view was awaited any more.
const watch = `(() => {
	const seen = window.seen = { first: 0, whole: 0 };
	const painted = (name) => requestAnimationFrame(() => setTimeout(() => { seen[name] ||= performance.now(); }));
	new MutationObserver(() => {
		if (!document.querySelector("main tbody tr")) return;
		painted("first");
		if (!document.querySelector("main [aria-busy], main .loading")) painted("whole");
	}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-busy", "class"] });
})()`

// BenchmarkConsole takes the time from the navigation to what the console's first view shows, against a
// local API with 100,000 dead letters: functions, console and browser as an operator has them, all on this
// machine. The baseline is a page of one row that asks for nothing, in turns with it.
func BenchmarkConsole(b *testing.B) {
	ok(b, build())
	server := redistest.Start(b)
	sinks := b.TempDir()
	store := dlq.NewRedis(server.Client(b), dlq.WithMaxLen(0))
	for i := range consoleSinks {
		name := fmt.Sprintf("sink-%d", i)
		ok(b, os.WriteFile(filepath.Join(sinks, name+".yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600))
		fill(b, store, name, 0, consoleDepth/consoleSinks)
	}
	stack, err := local.Start(context.Background(), local.Options{Bin: binaries, RedisURL: server.URL(), Sinks: "file:" + sinks})
	ok(b, err)
	b.Cleanup(func() { ok(b, stack.Close()) })
	served, err := console.Start(context.Background(), "", console.Options{API: stack.APIURL})
	ok(b, err)
	b.Cleanup(func() { ok(b, served.Close()) })

	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><main><table><tbody><tr><td>a row</table></main>"))
	}))
	b.Cleanup(empty.Close)
	for _, view := range []struct{ name, hash string }{{"overview", "#/"}, {"list", "#/items"}} {
		var first, whole, least []float64
		for i := range visits {
			f, w := visit(b, served.URL+"/"+view.hash)
			_, e := visit(b, empty.URL)
			if i > 0 { // the first one starts the functions
				first, whole, least = append(first, f), append(whole, w), append(least, e)
			}
		}
		report(b, bound("the console's "+view.name+", 100,000 dead letters: first rows", "ms", median(first), median(least), 200))
		report(b, bound("the console's "+view.name+", 100,000 dead letters: all of it", "ms", median(whole), median(least), 200))
	}
}

// visit opens a page in a browser that has not seen it, and returns when its first rows and the whole were
// painted.
func visit(b *testing.B, url string) (first, whole float64) {
	b.Helper()
	ctx, stop := chromedp.NewContext(browser(b), chromedp.WithNewBrowserContext())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: watch})
	ok(b, err)
	ok(b, chromedp.Do(ctx, chromedp.Navigate(url)))
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[map[string]float64](`new Promise((done) => {
		const look = () => (window.seen.whole ? done(window.seen) : setTimeout(look, 5));
		look();
	})`, chromedp.EvalAwaitPromise))
	ok(b, err)
	return seen["first"], seen["whole"]
}

// chromium is the browser of all visits.
var chromium context.Context

func browser(b *testing.B) context.Context {
	b.Helper()
	if chromium != nil {
		return chromium
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		b.Fatalf("%v: install it: apt-get install chromium", err)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-extensions", true), chromedp.Flag("no-proxy-server", true),
		chromedp.WindowSize(1280, 900))
	ctx, stop := chromedp.NewContext(allocator)
	b.Cleanup(func() { stop(); stopAllocator(); chromium = nil })
	ok(b, chromedp.Do(ctx))
	chromium = ctx
	return ctx
}
