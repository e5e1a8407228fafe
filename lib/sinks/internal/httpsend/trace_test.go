package httpsend

import (
	"regexp"
	"testing"
)

func TestWhatIsSentIsAChildOfTheCallersTrace(t *testing.T) {
	for caller, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":                           "^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$",
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more":                      "^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-00$",
		"Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1":        "^00-67891233abcdef012345678912345678-[0-9a-f]{16}-01$",
		"Self=1-67891234-12456789abcdef012345678; Root=1-67891233-abcdef012345678912345678": "^00-67891233abcdef012345678912345678-[0-9a-f]{16}-00$",
		"": "^$", "nonsense": "^$", "00-x-y-z": "^$", "Root=2-67891233-abcdef012345678912345678": "^$",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "^$",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "^$",
	} {
		got := traceparent(caller)
		if !regexp.MustCompile(want).MatchString(got) || got != "" && got[36:52] == "00f067aa0ba902b7" {
			t.Errorf("traceparent(%q) = %q, want %s, with a span of its own", caller, got, want)
		}
	}
}
