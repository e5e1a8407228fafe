package terms

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"backstop/docs"
	"backstop/lib/delivery"
	"backstop/lib/fault"
)

func TestATimeIsTakenAsRFC3339WritesIt(t *testing.T) {
	for text, want := range map[string]string{
		"2030-01-31T18:00:00Z":             "2030-01-31T18:00:00Z",
		"2030-01-31t18:00:00z":             "2030-01-31T18:00:00Z",
		"2030-01-31T20:00:00+02:00":        "2030-01-31T18:00:00Z",
		"2030-01-31T12:30:00-05:30":        "2030-01-31T18:00:00Z",
		"2030-01-31T18:00:00-00:00":        "2030-01-31T18:00:00Z",
		"2030-01-31T18:00:00.25Z":          "2030-01-31T18:00:00.25Z",
		"2030-01-31T18:00:00.123456789Z":   "2030-01-31T18:00:00.123456789Z",
		"2028-02-29T00:00:00Z":             "2028-02-29T00:00:00Z",
		"1970-01-01T00:00:00Z":             "1970-01-01T00:00:00Z",
		"9999-12-31T23:59:59Z":             "9999-12-31T23:59:59Z",
		"9999-12-31T23:59:59.999999+23:59": "9999-12-31T00:00:59.999999Z",
	} {
		got, err := ExpiresAt(text)
		if err != nil || got.Format(time.RFC3339Nano) != want || got.Location() != time.UTC {
			t.Errorf("%s: got %s, %v; want %s", text, got.Format(time.RFC3339Nano), err, want)
		}
	}
}

func TestATimeThatIsNoneIsRefused(t *testing.T) {
	const zone, leap, letter, year = ": the zone is missing", ": leap seconds are not taken: write the second after it", ": write a T between date and time", ": its year must be 1970 to 9999 in UTC"
	for text, why := range map[string]string{
		"":                              "",
		"tomorrow":                      "",
		"5m":                            "",
		"1893520800":                    "",
		"2030-01-31":                    "",
		"18:00:00Z":                     "",
		"2030-01-31T18:00Z":             "",
		"2030-01-31T18:00:00":           zone,
		"2030-01-31T18:00:00.5":         zone,
		"2030-01-31 18:00:00":           zone,
		"2030-01-31 18:00:00Z":          letter,
		"2030-01-31 20:00:00+02:00":     letter,
		"2030-06-30T23:59:60Z":          leap,
		"2030-01-31T18:00:60+02:00":     leap,
		"2030-01-31T18:00:60":           leap,
		"2030-01-31T18:00:61Z":          "",
		"2030-01-31T24:00:00Z":          "",
		"2030-02-29T18:00:00Z":          "",
		"2030-13-01T18:00:00Z":          "",
		"2030-01-31T8:00:00Z":           "",
		"2030-01-31T18:00:00,5Z":        "",
		"2030-01-31T18:00:00.Z":         "",
		"2030-01-31T18:00:00+2":         "",
		"2030-01-31T18:00:00+0200":      "",
		"2030-01-31T18:00:00+24:00":     "",
		"2030-01-31T18:00:00+02:60":     "",
		"2030-01-31T18:00:00Z+02:00":    "",
		"2030-01-31T18:00:00 CET":       "",
		"2030-01-31T18:00:00Z ":         "",
		" 2030-01-31T18:00:00Z":         "",
		"+2030-01-31T18:00:00Z":         "",
		"12030-01-31T18:00:00Z":         "",
		"20300131T180000Z":              "",
		"Thu, 31 Jan 2030 18:00:00 GMT": "",
		"２０３０-01-31T18:00:00Z":          "",
		"0001-01-01T00:00:00Z":          year, // Go's zero time, which would mean no expiry
		"1969-12-31T23:59:59Z":          year,
		"1970-01-01T00:00:00+01:00":     year,
		"9999-12-31T23:59:59-00:01":     year,
	} {
		got, err := ExpiresAt(text)
		refused(t, text, err, "expires_at: want a time as in RFC 3339 with its zone, such as 2030-01-31T18:00:00Z or 2030-01-31T20:00:00+02:00; got ", why)
		if !got.IsZero() {
			t.Errorf("%q: got %s beside the error", text, got)
		}
	}
}

// The examples that errors show are taken.
func TestTheExamplesOfErrorsAreTaken(t *testing.T) {
	_, examples, _ := strings.Cut(TimeForm, "such as ")
	for text := range strings.SplitSeq(examples, " or ") {
		if _, err := ExpiresAt(text); err != nil {
			t.Error(err)
		}
	}
	_, examples, _ = strings.Cut(DelayForm, "such as ")
	for text := range strings.SplitSeq(examples, " or ") {
		if _, err := SendAfter(text); err != nil {
			t.Error(err)
		}
	}
}

func TestADelayIsWholeSecondsRoundedUp(t *testing.T) {
	if LongestDelay != delivery.MaxSendAfter {
		t.Errorf("at most %s is read, and at most %s done", LongestDelay, delivery.MaxSendAfter)
	}
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "30s": 30 * time.Second, "2m": 2 * time.Minute, "1m30s": 90 * time.Second, "15m": LongestDelay, "900s": LongestDelay, "0.25h": LongestDelay,
		"1ns": time.Second, "500ms": time.Second, "1001ms": 2 * time.Second, "29.5s": 30 * time.Second, "14m59.000000001s": LongestDelay, "+30s": 30 * time.Second,
	} {
		if got, err := SendAfter(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"": "", "30": "", "soon": "", "-1s": "", "-0.1s": "", "16m": "", "15m0.001s": "", "15m1s": "", "1h": "", "1d": "", "30 s": "", " 30s": "", "30S": "", "1e1s": "", "PT30S": "", "9999999999h": "", "NaNs": "",
		"0s": ": leave the field out to send at once", "0": ": leave the field out to send at once", "-0s": ": leave the field out to send at once",
	} {
		got, err := SendAfter(text)
		refused(t, text, err, "send_after: want a duration with its unit, more than 0, at most 15m, such as 30s or 2m; got ", why)
		if got != 0 {
			t.Errorf("%q: got %s beside the error", text, got)
		}
	}
}

func TestAGroupIsAMessageGroupIDOfSQS(t *testing.T) {
	for _, text := range []string{"a", "user:4711", "A-1_b.c", strings.Repeat("x", LongestGroup), "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"} {
		if got, err := Group(text); err != nil || got != text {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", " ", "a b", "a\n", "a\tb", "ä", "a\x00", "a\x7f", strings.Repeat("x", LongestGroup+1)} {
		_, err := Group(text)
		refused(t, text, err, "group: want 1 to 128 ASCII letters, digits and punctuation, no space; got ", "")
	}
	// Every printable ASCII character but the space belongs to it, and nothing else.
	for c := range rune(256) {
		if _, err := Group(string(c)); (err == nil) != (c > ' ' && c < 0x7f) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// The patterns of the API's document take what is taken here, and refuse what is refused for its form.
func TestTheDocumentsPatternsAgree(t *testing.T) {
	d, err := openapi3.NewLoader().LoadFromData(docs.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	pattern := func(field string) *regexp.Regexp {
		p, err := regexp.Compile(d.Components.Schemas["Send"].Value.Properties[field].Value.Pattern)
		if err != nil || p.String() == "" {
			t.Fatalf("%s: %q, %v", field, p, err)
		}
		return p
	}
	after, group := pattern("send_after"), pattern("group")
	for _, number := range []string{"", "0", "1", "30", "1.5", ".5", "1.", ".", "-1", "+1", "1e1", " 1", "1 "} {
		for _, unit := range []string{"", "ns", "us", "µs", "μs", "ms", "s", "m", "d", "S", "ss", "m1s", "m.5s", "m1", "m s"} {
			text := number + unit
			_, err := SendAfter(text)
			_, other := time.ParseDuration(text)
			if matches := after.MatchString(text); err == nil && !matches || matches && other != nil {
				t.Errorf("send_after %q: matches %t; read: %v", text, matches, err)
			}
		}
	}
	for _, text := range append([]string{"", "a b", "ä", "a\n", strings.Repeat("x", LongestGroup), strings.Repeat("x", LongestGroup+1)}, strings.Split(punctuation, "")...) {
		if _, err := Group(text); (err == nil) != group.MatchString(text) {
			t.Errorf("group %q: matches %t; read: %v", text, group.MatchString(text), err)
		}
	}
}

// refused checks that err names the field, the bound and why, quotes a short text only, and
// has its code.
func refused(t *testing.T, text string, err error, want, why string) {
	t.Helper()
	if fault.CodeOf(err) != fault.CodeInvalidArgument {
		t.Errorf("%q: got %v, want %s", text, err, fault.CodeInvalidArgument)
		return
	}
	if msg := err.Error(); !strings.Contains(msg, want) || !strings.HasSuffix(msg, `"`+why) || len(msg) > 500 {
		t.Errorf("%q: got %q, want %q at its start and %q at its end", text, msg, want, why)
	}
}

// What is taken is always stored and read again as the same time.
func FuzzATimeThatIsTakenCanBeStored(f *testing.F) {
	for _, text := range []string{"2030-01-31T18:00:00Z", "2030-01-31t18:00:00.5+02:00", "9999-12-31T23:59:59-00:01", "", "Z", "+00:00", "2030-01-31T18:00:60Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ExpiresAt(text)
		if err != nil {
			return
		}
		b, err := at.MarshalJSON()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var again time.Time
		if err := again.UnmarshalJSON(b); err != nil || again != at || again.IsZero() {
			t.Errorf("%q: stored as %s, read as %s, %v", text, b, again, err)
		}
	})
}
