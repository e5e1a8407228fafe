package redisconn

import "testing"

func TestEverySlotHasATag(t *testing.T) {
	for name, want := range map[string]int{"123456789": 0x31c3 % slots, "foo": 12182, "": 0} { // of the specification, and CLUSTER KEYSLOT foo
		if got := slotOf(name); got != want {
			t.Errorf("slotOf(%q) = %d, want %d", name, got, want)
		}
	}
	seen := map[string]bool{}
	for slot := range slots {
		tag := tagOf(slot)
		if slotOf(tag) != slot || seen[tag] || len(tag) != 4 {
			t.Fatalf("tagOf(%d) = %q, which is in %d", slot, tag, slotOf(tag))
		}
		seen[tag] = true
	}
}
