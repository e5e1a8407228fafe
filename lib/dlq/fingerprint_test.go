package dlq_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"backstop/lib/dlq"
)

func TestFingerprintMasksWhatDiffers(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"SINK_UNAVAILABLE: HTTP 503: Service Unavailable":                "SINK_UNAVAILABLE: HTTP 503: Service Unavailable",
		"SMTP 451 4.7.1 try again in 300 seconds":                        "SMTP 451 <n> try again in <n> seconds",
		"dial tcp 10.1.2.3:443: i/o timeout":                             "dial tcp <host>: i/o timeout",
		"dial tcp [2001:db8::1]:443: connect: refused":                   "dial tcp <host>: connect: refused",
		"lookup hooks.example.org:443 on 10.0.0.2:53: no such host":      "lookup <host> on <host>: no such host",
		"550 no mailbox anna.smith+x@mail.example.org":                   "<n> no mailbox <email>",
		"order 01890a5d-ac96-774b-bcce-b302099a8057 rejected":            "order <id> rejected",
		"request 0xdeadBEEF and 4bf92f3577b34da6a3ce929d0e0e4736 failed": "request <id> and <id> failed",
		`unknown channel "general" of 'team' for ` + "`x`":               "unknown channel <text> of <text> for <text>",
		"took 1.5s\n\tafter   3 tries":                                   "took <n>s after <n> tries",
		"HTTP 404: channel 12":                                           "HTTP 404: channel <n>",
		"Grüße \xff":                                                     "Grüße \uFFFD",
	} {
		if got := dlq.Fingerprint(in); got != want {
			t.Errorf("Fingerprint(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFingerprintIsBoundedAndValid(t *testing.T) {
	for _, in := range []string{strings.Repeat("ä", 1000), strings.Repeat("x", 1<<20), strings.Repeat("\xff", 1000), strings.Repeat(`"a"1@`, 1000)} {
		got := dlq.Fingerprint(in)
		if len(got) > 120 || !utf8.ValidString(got) || strings.Contains(got, "\n") {
			t.Errorf("Fingerprint of %.20q...: %d bytes %q", in, len(got), got)
		}
	}
}
