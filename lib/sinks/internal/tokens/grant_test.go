package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
	"backstop/lib/sinks/sinktest"
)

const (
	id     = "client:1"
	secret = "s3cret+/ü"
)

var rsaTestKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func testKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsaTestKey()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func parsed(tb testing.TB, raw string) *url.URL {
	tb.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// keyFile is a service account's key file, with what change makes of it.
func keyFile(tb testing.TB, change func(map[string]any)) sinks.Secret {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(testKey(tb))
	if err != nil {
		tb.Fatal(err)
	}
	file := map[string]any{
		"type": "service_account", "project_id": "shop-1", "private_key_id": "key-1", "client_email": "push@shop-1.example",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
	if change != nil {
		change(file)
	}
	b, err := json.Marshal(file)
	if err != nil {
		tb.Fatal(err)
	}
	return sinks.Secret(b)
}

// grants are the caches under test, by the grant.
func grants(tb testing.TB, endpoint string) map[string]*Cache {
	tb.Helper()
	u := parsed(tb, endpoint+"/t0ken-path")
	google, err := ServiceAccount(httpsend.NewClient(nil), keyFile(tb, nil), "scope-1", u)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]*Cache{
		"client credentials": ClientCredentials(httpsend.NewClient(nil), ClientCredentialsConfig{TokenURL: u, ClientID: id, ClientSecret: secret}),
		"service account":    google,
	}
}

// What a token endpoint does is terminal only where it refuses who asks, and never ambiguous.
func TestWhatComesOfAFetch(t *testing.T) {
	type row struct {
		status int
		body   string
		header string // Retry-After
		token  string
		text   string // of the error
		refuse bool   // terminal, and not the receiver's answer
		wait   time.Duration
	}
	rows := map[string]row{
		"a token":               {status: 200, body: `{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}`, token: "ya29.x"},
		"a life as text":        {status: 200, body: `{"access_token":"ya29.x","expires_in":"3599"}`, token: "ya29.x"},
		"an odd life":           {status: 200, body: `{"access_token":"ya29.x","expires_in":{}}`, token: "ya29.x"},
		"a page":                {status: 200, body: "<html>s3cret", text: "HTTP 200 OK: the answer holds no access token"},
		"nothing":               {status: 200, text: "holds no access token"},
		"another object":        {status: 200, body: `{"id_token":"s3cret"}`, text: "holds no access token"},
		"a number for a token":  {status: 200, body: `{"access_token":5}`, text: "holds no access token"},
		"a token with line end": {status: 200, body: `{"access_token":"a\r\nX-Injected: yes"}`, text: "holds no access token"},
		"an endless answer":     {status: 200, body: `{"access_token":"ya29.x"}` + strings.Repeat(" ", 70<<10), text: "holds no access token"},
		"200 with an error":     {status: 200, body: `{"error":"invalid_client"}`, text: "HTTP 200 OK: invalid_client"},
		"302":                   {status: 302, text: "HTTP 302"},
		"400 invalid_client":    {status: 400, body: `{"error":"invalid_client","error_description":"client s3cret unknown"}`, text: "HTTP 400 Bad Request: invalid_client", refuse: true},
		"401 invalid_client":    {status: 401, body: `{"error":"invalid_client"}`, text: "HTTP 401 Unauthorized: invalid_client", refuse: true},
		"400 with a token":      {status: 400, body: `{"access_token":"ya29.x"}`, text: "HTTP 400 Bad Request", refuse: true},
		"403 of another kind":   {status: 403, body: `{"error":{"message":"s3cret"}}`, text: "HTTP 403 Forbidden", refuse: true},
		"400 in unknown words":  {status: 400, body: `{"error":"s3cret"}`, text: "HTTP 400 Bad Request", refuse: true},
		"400 that passes":       {status: 400, body: `{"error":"temporarily_unavailable"}`, text: "HTTP 400 Bad Request: temporarily_unavailable"},
		"404 with a page":       {status: 404, body: "<html>s3cret", text: "HTTP 404 Not Found", refuse: true},
		"429":                   {status: 429, header: "7", text: "HTTP 429 Too Many Requests (retry after 7s)", wait: 7 * time.Second},
		"503":                   {status: 503, header: "120", text: "HTTP 503", wait: 2 * time.Minute},
		"500":                   {status: 500, body: `{"error":"server_error"}`, text: "HTTP 500 Internal Server Error: server_error"},
	}
	for name, r := range rows {
		answers := map[sinktest.Behaviour]http.HandlerFunc{"answer": func(w http.ResponseWriter, _ *http.Request) {
			if r.header != "" {
				w.Header().Set("Retry-After", r.header)
			}
			w.WriteHeader(r.status)
			_, _ = io.WriteString(w, r.body)
		}}
		server := sinktest.NewHTTPServer(t, "answer", "", answers)
		for grant, c := range grants(t, server.URL) {
			token, err := c.Get(t.Context())
			checkFetch(t, name+", "+grant, token, err, r.token)
			if r.token != "" {
				continue
			}
			if sinks.IsUnreached(err) != r.refuse || sinks.IsTransient(err) == r.refuse || sinks.RetryAfterOf(err) != r.wait {
				t.Errorf("%s, %s: %v: unreached %v, transient %v, wait %s", name, grant, err, sinks.IsUnreached(err), sinks.IsTransient(err), sinks.RetryAfterOf(err))
			}
			if prefix := "POST token endpoint " + server.URL + ": "; err != nil && (!strings.Contains(err.Error(), prefix) || !strings.Contains(err.Error(), r.text)) {
				t.Errorf("%s, %s: %v, want it to say %q and %q", name, grant, err, prefix, r.text)
			}
		}
	}
	for _, b := range []sinktest.Behaviour{sinktest.Refuse, sinktest.ResetEarly, sinktest.ResetLate, sinktest.Garbage} {
		for grant, c := range grants(t, sinktest.NewHTTPServer(t, b, "", nil).URL) {
			token, err := c.Get(t.Context())
			checkFetch(t, string(b)+", "+grant, token, err, "")
			if !sinks.IsTransient(err) || sinks.IsUnreached(err) || !strings.Contains(err.Error(), "token endpoint ") {
				t.Errorf("%s, %s: %v, want a transient error", b, grant, err)
			}
		}
	}
}

// checkFetch checks what holds for each fetch.
func checkFetch(t *testing.T, name, token string, err error, want string) {
	t.Helper()
	if token != want || (err == nil) != (want != "") {
		t.Errorf("%s: Get = %q, %v, want %q", name, token, err, want)
		return
	}
	if err == nil {
		return
	}
	if sinks.IsAmbiguous(err) || sinks.CodeOf(err) != sinks.CodeSinkUnavailable {
		t.Errorf("%s: %v, want %s, not ambiguous", name, err, sinks.CodeSinkUnavailable)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, part := range []string{"s3cret", "t0ken-path", id, "push@", "key-1", "PRIVATE"} {
			if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, part) {
				t.Errorf("%s: the error shows %q: %s", name, part, text)
			}
		}
	}
}

// A caller leaves an endpoint that is slow, and the next one has its token.
func TestASlowEndpointServesWhoComesLater(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = io.WriteString(w, `{"access_token":"late","expires_in":60}`)
	}))
	defer server.Close()
	for grant, c := range grants(t, server.URL) {
		ctx, cancel := contextUntil(t, asked)
		_, err := c.Get(ctx)
		cancel()
		if !errors.Is(err, ctx.Err()) || sinks.IsTransient(err) || sinks.IsAmbiguous(err) {
			t.Errorf("%s: %v, want the context's end, not marked", grant, err)
		}
		release <- struct{}{}
		want(t, c, "late")
		if len(asked) != 0 {
			t.Errorf("%s: the endpoint was asked twice", grant)
		}
	}
}

func TestClientCredentialsAsTheRFCHasThem(t *testing.T) {
	for name, c := range map[string]struct {
		config ClientCredentialsConfig
		auth   string
		form   string
	}{
		"basic":    {ClientCredentialsConfig{ClientID: id, ClientSecret: secret}, "client%3A1:s3cret%2B%2F%C3%BC", "grant_type=client_credentials"},
		"in full":  {ClientCredentialsConfig{ClientID: "a", ClientSecret: "b", Scope: "x y", Audience: "https://api.example"}, "a:b", "audience=https%3A%2F%2Fapi.example&grant_type=client_credentials&scope=x+y"},
		"the body": {ClientCredentialsConfig{ClientID: id, ClientSecret: secret, SecretInBody: true}, "", "client_id=client%3A1&client_secret=s3cret%2B%2F%C3%BC&grant_type=client_credentials"},
	} {
		var got, auth string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("%s: %s, %v, %v", name, r.Method, r.Header, err)
			}
			got, auth = string(b), r.Header.Get("Authorization")
			_, _ = io.WriteString(w, `{"access_token":"x"}`)
		}))
		c.config.TokenURL = parsed(t, server.URL)
		want(t, ClientCredentials(httpsend.NewClient(nil), c.config), "x")
		server.Close()
		wanted := ""
		if c.auth != "" {
			wanted = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.auth))
		}
		if got != c.form || auth != wanted {
			t.Errorf("%s: form %q with %q, want %q with %q", name, got, auth, c.form, wanted)
		}
	}
}

// claims checks a JWT's signature and returns its header and claims.
func claims(tb testing.TB, token string, valid func(digest, signature []byte) bool) (header, body map[string]any) {
	tb.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		tb.Fatalf("a JWT of %d parts: %q", len(parts), token)
	}
	var raw [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			tb.Fatal(err)
		}
		raw[i] = b
	}
	if digest := sha256.Sum256([]byte(parts[0] + "." + parts[1])); !valid(digest[:], raw[2]) {
		tb.Error("the signature is not valid")
	}
	if err := errors.Join(json.Unmarshal(raw[0], &header), json.Unmarshal(raw[1], &body)); err != nil {
		tb.Fatal(err)
	}
	return header, body
}

// google is a token endpoint whose clock is off: it refuses assertions as Google does.
type google struct {
	t     *testing.T
	off   time.Duration
	asked int
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.asked++
	if grant := r.FormValue("grant_type"); grant != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		g.t.Errorf("grant_type %q", grant)
	}
	header, body := claims(g.t, r.FormValue("assertion"), func(digest, signature []byte) bool {
		return rsa.VerifyPKCS1v15(&testKey(g.t).PublicKey, crypto.SHA256, digest, signature) == nil
	})
	if diff := cmp.Diff(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "key-1"}, header); diff != "" {
		g.t.Errorf("header (-want +got):\n%s", diff)
	}
	now := time.Now().Add(g.off)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	iat, ok1 := body["iat"].(float64)
	exp, ok2 := body["exp"].(float64)
	delete(body, "iat")
	delete(body, "exp")
	if diff := cmp.Diff(map[string]any{"iss": "push@shop-1.example", "scope": "scope-1", "aud": googleTokens}, body); diff != "" || !ok1 || !ok2 || exp-iat != 3600 {
		g.t.Errorf("claims, %v to %v (-want +got):\n%s", iat, exp, diff)
	}
	if at := now.Sub(time.Unix(int64(iat), 0)); at < 0 || at > 2*time.Minute {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token"}`)
		return
	}
	_, _ = io.WriteString(w, `{"access_token":"ya29.x","expires_in":3599}`)
}

func TestAServiceAccountsAssertionFollowsTheEndpointsClock(t *testing.T) {
	for off, fetches := range map[time.Duration]int{0: 1, time.Minute: 1, 3 * time.Hour: 2, -3 * time.Hour: 2} {
		g := &google{t: t, off: off}
		server := httptest.NewServer(g)
		c := grants(t, server.URL)["service account"]
		want(t, c, "ya29.x")
		if g.asked != fetches {
			t.Errorf("clocks that differ by %s: %d requests, want %d", off, g.asked, fetches)
		}
		c.Drop("ya29.x")
		want(t, c, "ya29.x")
		if g.asked != fetches+1 {
			t.Errorf("clocks that differ by %s: %d requests after another fetch, want %d: the difference is known", off, g.asked, fetches+1)
		}
		server.Close()
	}
}

// An account that was deleted is refused in the same words: the date decides.
func TestAnInvalidGrantIsAskedForOnceWhereClocksAgree(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
	}))
	defer server.Close()
	_, err := grants(t, server.URL)["service account"].Get(t.Context())
	if !sinks.IsUnreached(err) || asked != 1 {
		t.Errorf("%v after %d requests, want a refusal after one", err, asked)
	}
}

func TestWhatIsWrongWithAKeyFileIsSaidWithoutIt(t *testing.T) {
	elliptic256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(elliptic256)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) sinks.Secret {
		return keyFile(t, func(m map[string]any) { m[name] = value })
	}
	for want, file := range map[string]sinks.Secret{
		"required":                                  "",
		"not the JSON of a service account":         "s3cret",
		`type: want "service_account"`:              set("type", "s3cret"),
		"private_key: not a PEM block":              set("private_key", "s3cret"),
		"private_key: not an RSA key":               set("private_key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
		"client_email: required":                    set("client_email", ""),
		"token_uri: not an http or https URL":       set("token_uri", "s3cret"),
		"not the JSON of a service account's key f": set("project_id", 5),
	} {
		_, err := ServiceAccount(httpsend.NewClient(nil), file, "s", nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if got := ProjectID(keyFile(t, nil)); got != "shop-1" {
		t.Errorf("ProjectID = %q", got)
	}
	if got := ProjectID("{"); got != "" {
		t.Errorf("ProjectID of no file = %q", got)
	}
	pkcs1 := set("private_key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testKey(t))})))
	if _, err := ServiceAccount(httpsend.NewClient(nil), pkcs1, "s", nil); err != nil {
		t.Errorf("a key in PKCS #1: %v", err)
	}
}

func TestES256IsSignedAsRFC7518HasIt(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for iat := range 50 { // numbers with leading zeros are as long as the others
		token, err := SignES256(key, "ABC", map[string]any{"iss": "TEAM", "iat": iat})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := SignES256(key, "ABC", map[string]any{"iss": "TEAM", "iat": iat}); again != token || err != nil {
			t.Errorf("signed again: %q, %v, want the same token, %q", again, err, token)
		}
		header, body := claims(t, token, func(digest, signature []byte) bool {
			return len(signature) == 64 && ecdsa.Verify(&key.PublicKey, digest, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		})
		if diff := cmp.Diff([]map[string]any{{"alg": "ES256", "typ": "JWT", "kid": "ABC"}, {"iss": "TEAM", "iat": float64(iat)}}, []map[string]any{header, body}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestHowLongATokenLives(t *testing.T) {
	for v, want := range map[any]time.Duration{
		json.Number("3599"): 3599 * time.Second, "3599": 3599 * time.Second, json.Number("1.5"): 1500 * time.Millisecond,
		json.Number("1e300"): maxLife, "99999999999999999999": maxLife, json.Number("0"): 0, json.Number("-5"): 0, "NaN": 0, "soon": 0, nil: 0, true: 0,
	} {
		if got := lifetime(v); got != want {
			t.Errorf("lifetime(%v) = %s, want %s", v, got, want)
		}
	}
}
