package handler

import "testing"

// Prefer is read as RFC 7240 writes it.
func TestTheCallerPrefersToBeAnsweredAtOnce(t *testing.T) {
	for value, want := range map[string]bool{
		"respond-async":               true,
		"Respond-Async":               true,
		"RESPOND-ASYNC":               true,
		"  respond-async\t":           true,
		"respond-async, wait=10":      true,
		"wait=10, respond-async":      true,
		"wait=10,respond-async":       true,
		"respond-async; wait=10":      true,
		"respond-async;a=b;c":         true,
		"respond-async ; a=\"b;c,d\"": true,
		"respond-async=\"\"":          true,
		"respond-async = ":            true,
		"return=minimal; foo=\"bar\", respond-async, handling=lenient": true,
		", ,respond-async,":                true,
		"note=\"a \\\" b\", respond-async": true,
		"note=\"\\\\\", respond-async":     true,

		"":                                 false,
		",":                                false,
		";":                                false,
		"wait=10":                          false,
		"return=minimal":                   false,
		"respond-sync":                     false,
		"respond-asynchronously":           false,
		"x-respond-async":                  false,
		"respond async":                    false,
		"note=respond-async":               false,
		"note; respond-async":              false, // a parameter of another preference
		"note=\"x, respond-async, y\"":     false,
		"note=\"x\\\", respond-async, y\"": false,
		"note=\"x, respond-async":          false, // the quote is never closed
		"\"respond-async\"":                false,
		"respond-async=no":                 false,
		"respond-async=false":              false,
		"respond-async=no, respond-async":  false, // only the first counts
	} {
		if got := respondAsync(map[string]string{"prefer": value}); got != want {
			t.Errorf("Prefer: %s: got %t, want %t", value, got, want)
		}
	}
	// Names of headers have any case, and an event of another origin may have several.
	for name, c := range map[string]struct {
		headers map[string]string
		want    bool
	}{
		"no header":      {nil, false},
		"another header": {map[string]string{"preference": "respond-async"}, false},
		"any case":       {map[string]string{"PREFER": "respond-async"}, true},
		"two of a name":  {map[string]string{"Prefer": "wait=5", "prefer": "respond-async"}, true},
	} {
		if got := respondAsync(c.headers); got != c.want {
			t.Errorf("%s: got %t, want %t", name, got, c.want)
		}
	}
}
