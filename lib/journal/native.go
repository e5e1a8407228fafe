package journal

import (
	"context"

	"backstop/lib/dlq"
)

// putRest puts letters back but those that wait in the queue under the address that it has for what was
// pushed without one ("@" and the native id). The journal spells that otherwise: Return would take it for
// another address, which is over then, and the dead letter would lose its object.
func (k *Keeper) putRest(ctx context.Context, sink string, letters []dlq.Letter, put func([]dlq.Letter) ([]dlq.Returned, error)) ([]dlq.Returned, error) {
	var native []dlq.Identity
	var at []int // in letters
	for i, l := range letters {
		if g, _ := locate(l.Item.Journal); g != "" {
			if _, ok := g.native(); ok {
				native, at = append(native, l.Identity), append(at, i)
			}
		}
	}
	if len(native) == 0 {
		return put(letters)
	}
	present, err := k.Queue.Present(ctx, sink, native)
	if err != nil {
		return nil, err
	}
	there := map[int]dlq.Returned{}
	for j, p := range present {
		if p.ID != "" && spelled(p.Address) == spelled(letters[at[j]].Item.Journal) {
			there[at[j]] = dlq.Returned{Status: dlq.ReturnExists, ID: p.ID}
		}
	}
	var rest []dlq.Letter
	for i, l := range letters {
		if _, ok := there[i]; !ok {
			rest = append(rest, l)
		}
	}
	var got []dlq.Returned
	if len(rest) > 0 {
		if got, err = put(rest); err != nil || len(got) != len(rest) {
			return got, err
		}
	}
	answers := make([]dlq.Returned, len(letters))
	for i := range letters {
		if r, ok := there[i]; ok {
			answers[i] = r
			continue
		}
		answers[i], got = got[0], got[1:]
	}
	return answers, nil
}
