package dlq

import (
	"hash/fnv"
	"strconv"
	"strings"
)

// MaxShards is the most queues that a sink's dead letters are spread over (see WithShards).
const MaxShards = 64

// shardStep is how a native id tells its shard: the n-th entry of a millisecond in shard s has the sequence number
// s*shardStep + n. So native ids stay unique within a sink, those of shard 0 are what Redis gives by itself, and both
// parts can be read by eye: "1766000000000-3000000000007".
const shardStep = 1_000_000_000_000

// shardOf returns the shard that a native id tells. One that others chose by themselves, beyond all shards, is in shard 0, where
// they write.
func shardOf(native string) int {
	_, seq := splitNative(native)
	if shard := seq / shardStep; shard < MaxShards {
		return int(shard)
	}
	return 0
}

// queueOf names the queue of a shard, and with it its keys: shard 0 is the sink's own, the one that is there without shards.
// No sink has such a name: it has no "~".
func queueOf(sink string, shard int) string {
	if shard == 0 {
		return sink
	}
	return sink + "~" + strconv.Itoa(shard)
}

// sinkOf is the sink of a queue.
func sinkOf(queue string) string {
	sink, _, _ := strings.Cut(queue, "~")
	return sink
}

// queue names the queue that has the dead letter.
func (id ID) queue() string { return queueOf(id.Sink, shardOf(id.Native)) }

// Shard returns which of n shards, from 0, has the dead letters of a delivery that are pushed while its sink has n (see WithShards).
func Shard(deliveryID string, n int) int {
	at := placesOf(firstKey(deliveryID), shards(n))
	return at[len(at)-1]
}

// placesOf returns the shards, in ascending order, that dead letters of a delivery have been pushed to while a sink had up to n shards:
// the last one is where they go with n. A delivery stays where it is unless its new place is a shard that is new, as in
// "A Fast, Minimal Memory, Consistent Hash Algorithm" (Lamping, Veach, 2014), whose steps these are: log n of them in the mean.
func placesOf(deliveryKey string, n int) []int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(deliveryKey))
	key := h.Sum64()
	var places []int
	for next := int64(0); next < int64(n); {
		at := next
		places = append(places, int(at))
		key = key*2862933555777941757 + 1
		next = int64(float64(at+1) * (float64(int64(1)<<31) / float64((key>>33)+1)))
	}
	return places
}
