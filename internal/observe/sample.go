package observe

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// maxWeight is how many deliveries one line may stand for.
const maxWeight = 1_000_000

// Sample says which log lines of plain successes are written: those of one in so many delivery
// ids. The zero value, like 1, is all.
type Sample int

// ParseSample reads "all" or "1/N".
func ParseSample(s string) (Sample, error) {
	if s == "all" {
		return 1, nil
	}
	if n, ok := strings.CutPrefix(s, "1/"); ok {
		if n, err := strconv.Atoi(n); err == nil && n >= 1 && n <= maxWeight {
			return Sample(n), nil
		}
	}
	return 0, fmt.Errorf("%.40q; want all, or 1/N for one in N (N from 1 to %d)", s, maxWeight)
}

// Weight is how many deliveries a line stands for.
func (s Sample) Weight() int { return max(int(s), 1) }

// Takes reports whether the lines of a delivery are written. Every process answers the same for
// one id, so that all lines of a delivery are there, or none.
func (s Sample) Takes(deliveryID string) bool {
	sum := sha256.Sum256([]byte(deliveryID))
	return binary.BigEndian.Uint64(sum[:])%uint64(s.Weight()) == 0 //nolint:gosec // at least 1
}
