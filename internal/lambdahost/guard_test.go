package lambdahost_test

import (
	"net/http"
	"strings"
	"testing"

	"backstop/internal/lambdahost"
)

// A web page that found a process's Runtime API could take its next invocation away, or
// answer for it.
func TestOtherSitesPagesDoNotReachTheRuntimeAPI(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	env := decode[map[string]string](t, invoke(t, h, "probe", `{"do":"env"}`).Payload)
	answer := "http://" + env["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/unknown/response"
	for page, c := range map[string]struct {
		headers []string
		want    int
	}{
		"a runtime":                {nil, http.StatusBadRequest}, // of an id that it was not given
		"a form of another site":   {[]string{"Origin", "https://attacker.example"}, http.StatusForbidden},
		"a script of another site": {[]string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"a rebound name":           {[]string{"Host", "attacker.example"}, http.StatusMisdirectedRequest},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, answer, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(c.headers); i += 2 {
			if c.headers[i] == "Host" {
				req.Host = c.headers[i+1]
			}
			req.Header.Set(c.headers[i], c.headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.want {
			t.Errorf("%s gets %d, want %d", page, res.StatusCode, c.want)
		}
	}
}
