package httpsend

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// traceparent returns the W3C header (https://www.w3.org/TR/trace-context) of a child of the caller's
// trace, which is a traceparent or an X-Amzn-Trace-Id; empty for anything else. The identifier of
// its own is random: no span is exported.
func traceparent(caller string) string {
	trace, flags := "", "00"
	if p := strings.Split(caller, "-"); len(p) >= 4 && len(p[0]) == 2 && len(p[3]) == 2 && isHex(p[0]) && isHex(p[2]) && isHex(p[3]) && p[0] != "ff" && len(p[2]) == 16 {
		trace, flags = p[1], p[3]
	} else {
		for field := range strings.SplitSeq(caller, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			switch name {
			case "Root":
				version, rest, _ := strings.Cut(value, "-")
				if version == "1" {
					trace = strings.Replace(rest, "-", "", 1)
				}
			case "Sampled":
				if value == "1" {
					flags = "01"
				}
			}
		}
	}
	if len(trace) != 32 || !isHex(trace) || strings.Trim(trace, "0") == "" {
		return ""
	}
	var span [8]byte
	_, _ = rand.Read(span[:]) // it never fails
	return "00-" + trace + "-" + hex.EncodeToString(span[:]) + "-" + flags
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
