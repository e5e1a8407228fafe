package bench

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/redistest"
)

// BenchmarkLargeEvent sends an HTTP event of 190 KB through the real send function, and
// decodes the same bytes once as a program would that does nothing else with them.
func BenchmarkLargeEvent(b *testing.B) {
	r := newReceiver(b, 0)
	f := startFunction(b, "send", r.URL, redistest.Start(b).URL())
	line := "<p class=\"a\">Grüße an alle, und noch ein paar Wörter mehr in einem Satz.</p>\n"
	request, err := json.Marshal(map[string]any{"sink": "ops", "message": map[string]string{
		"subject": "a subject", "body": strings.Repeat(line, 1690),
	}})
	ok(b, err)
	event := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: "/v1/messages", Body: string(request)}
	event.RequestContext.HTTP.Method, event.RequestContext.Stage = "POST", "$default"
	raw, err := json.Marshal(event)
	ok(b, err)
	progress("an HTTP event of %d bytes", len(raw))

	var ours, decode []float64
	for range 200 {
		res := f.invoke(b, raw)
		if !strings.Contains(string(res.Payload), `\"status\":\"delivered\"`) {
			b.Fatalf("answered %.200s, want a delivery", res.Payload)
		}
		ours = append(ours, float64(res.Duration)/float64(time.Microsecond))
		timed(b, &decode, func() error { return json.Unmarshal(raw, &events.APIGatewayV2HTTPRequest{}) })
	}
	report(b, paired("HTTP event of 190 KB through send / one json.Unmarshal of it", "µs", ours, decode, none))
}
