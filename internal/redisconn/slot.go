package redisconn

import "sync"

// slots is how many a cluster has (https://valkey.io/topics/cluster-spec).
const slots = 1 << 14

// slotOf is the number of a cluster's slot for a key without a hash tag: the lower bits of its CRC-16 (XMODEM).
func slotOf(key string) int { return int(crc16(key)) % slots }

func crc16(s string) (crc uint16) {
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// tagOf is a hash tag that is in a slot: four characters from @ to O, which differ in 16 bits. The CRC of two texts' difference
// is the difference of their CRCs, so that each bit of the slot is had by turning some of these.
func tagOf(slot int) string {
	rest, turned := uint16(slot)^crc16("@@@@"), uint16(0) //nolint:gosec // less than 2^14
	for bit, b := range basis() {
		if rest>>bit&1 != 0 {
			rest, turned = rest^b.crc, turned^b.turned
		}
	}
	return spelled(turned)
}

// spelled is "@@@@" with 16 bits turned.
func spelled(turned uint16) string {
	return string([]byte{'@' | byte(turned>>12), '@' | byte(turned>>8&15), '@' | byte(turned>>4&15), '@' | byte(turned&15)})
}

// basis has, for each bit of a slot, which bits to turn so that no lower one of the slot changes, and what that changes.
var basis = sync.OnceValue(func() (b [14]struct{ crc, turned uint16 }) {
	var all [16]struct{ crc, turned uint16 }
	for i := range all {
		all[i].turned = 1 << i
		all[i].crc = crc16(spelled(all[i].turned)) ^ crc16("@@@@")
	}
	free := all[:]
	for bit := range b {
		for i := range free {
			if free[i].crc>>bit&1 != 0 {
				free[0], free[i] = free[i], free[0]
				break
			}
		}
		b[bit] = free[0]
		free = free[1:]
		for i := range free {
			if free[i].crc>>bit&1 != 0 {
				free[i].crc, free[i].turned = free[i].crc^b[bit].crc, free[i].turned^b[bit].turned
			}
		}
	}
	return b
})
