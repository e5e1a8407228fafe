package dlq

import (
	"fmt"
	"slices"
	"testing"
)

// With more shards a delivery stays where it is, or goes to a shard that is new; and the shards get about as many each.
func TestPlacesOfADelivery(t *testing.T) {
	const keys = 20_000
	counts := map[int]map[int]int{}
	for i := range keys {
		key := firstKey(fmt.Sprint("delivery ", i))
		all := placesOf(key, MaxShards)
		if all[0] != 0 || !slices.IsSorted(all) {
			t.Fatalf("places %v", all)
		}
		for n := 1; n <= MaxShards; n++ {
			got := placesOf(key, n)
			if want := all[:len(got)]; !slices.Equal(got, want) || got[len(got)-1] >= n || len(got) < len(all) && all[len(got)] < n {
				t.Fatalf("with %d shards %v, of all %v", n, got, all)
			}
			if counts[n] == nil {
				counts[n] = map[int]int{}
			}
			counts[n][got[len(got)-1]]++
		}
	}
	for _, n := range []int{2, 3, 16, 64} {
		for shard := range n {
			if got, even := counts[n][shard], keys/n; got < even*3/4 || got > even*5/4 {
				t.Errorf("shard %d of %d has %d of %d", shard, n, got, keys)
			}
		}
	}
}

func TestAnIDTellsItsShard(t *testing.T) {
	for native, want := range map[string]string{
		"1766000000000-0": "a", "1766000000000-999999999999": "a", "1766000000000-1000000000000": "a~1", "1766000000000-63000000000007": "a~63",
		"1766000000000-64000000000000": "a", "1766000000000-18446744073709551615": "a",
	} {
		if got := (ID{Sink: "a", Native: native}).queue(); got != want || sinkOf(got) != "a" {
			t.Errorf("%s is in %s, want %s", native, got, want)
		}
	}
}
