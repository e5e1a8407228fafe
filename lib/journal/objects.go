package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// errConflict is a dead letter whose place in the journal another one has.
var errConflict = errors.New("another dead letter has this name")

// put, get, replace and remove are the bucket's calls, bounded, and with the object's name in their errors.
func (k *Keeper) put(ctx context.Context, name string, body []byte) error {
	_, err := call(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, k.Bucket.Put(ctx, name, body) })
	return about("put", name, err)
}

func (k *Keeper) get(ctx context.Context, name string) (Object, error) {
	o, err := call(ctx, func(ctx context.Context) (Object, error) { return k.Bucket.Get(ctx, name) })
	return o, about("get", name, err)
}

func (k *Keeper) replace(ctx context.Context, name, tag string, body []byte) error {
	_, err := call(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, k.Bucket.Replace(ctx, name, tag, body)
	})
	return about("replace", name, err)
}

// remove deletes any number of objects.
func (k *Keeper) remove(ctx context.Context, names []string) error {
	for some := range slices.Chunk(names, 1000) {
		if _, err := call(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, k.Bucket.Delete(ctx, some...)
		}); err != nil {
			return about("delete", some[0], err)
		}
	}
	return nil
}

func about(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, clip(name), err)
}

// contents is an object as it was read.
type contents struct {
	Object
	letters []*dlq.Letter
	bad     map[int]error
	gone    bool
}

// read reads an object of a group. What is wrong with it is told; its good lines are returned. The error is for
// a bucket that fails.
func (k *Keeper) read(ctx context.Context, sink, name string, g group, damaged damage) (contents, error) {
	o, err := k.get(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return contents{gone: true}, nil
	case errors.Is(err, ErrTooLarge):
		damaged.tell(ctx, name, err)
		bad := map[int]error{}
		for i := range g.lines() {
			bad[i] = err
		}
		return contents{letters: make([]*dlq.Letter, g.lines()), bad: bad}, nil
	case err != nil:
		return contents{}, err
	}
	letters, bad, err := decode(sink, g, o.Body)
	for i, l := range letters {
		if l != nil && !isIdentity(l.Identity) {
			letters[i], bad[i] = nil, fmt.Errorf("line %d has no identity of a dead letter", i)
		}
		err = errors.Join(err, bad[i])
	}
	if err != nil {
		damaged.tell(ctx, name, err)
	}
	return contents{Object: o, letters: letters, bad: bad}, nil
}

// isIdentity says that a queue takes it for one.
func isIdentity(id dlq.Identity) bool {
	return fault.IsMadeOf(id.PushKey, 64, fault.Alphanumeric+"-_,@") && fault.IsMadeOf(id.Content, 64, fault.Alphanumeric+"-_?")
}

// write makes sure that an object of open/ has these letters on their lines; nil: nothing is known of a line.
// An object that is there keeps its other lines; one whose line another dead letter has is errConflict, and
// stays as it is. from is the body that they were read from, of spill/: then open/ has them, most probably. Nil: there is none.
func (k *Keeper) write(ctx context.Context, sink string, g group, letters []*dlq.Letter, from []byte) error {
	name, look := g.open(sink), from != nil
	const tries = 10 // others change it too, once per line
	for range tries {
		if !look {
			body, err := encode(bare(letters))
			if err != nil {
				return err
			}
			if err := k.put(ctx, name, body); !errors.Is(err, ErrExists) {
				return err
			}
		}
		o, err := k.get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			look = false
			continue
		}
		if errors.Is(err, ErrTooLarge) {
			return fmt.Errorf("%w: %w", errConflict, err)
		}
		if err != nil {
			return err
		}
		if from != nil && covers(o.Body, from) {
			return nil
		}
		body, err := merge(sink, g, o.Body, letters)
		if err != nil || body == nil {
			return err
		}
		if err := k.replace(ctx, name, o.Tag, body); !errors.Is(err, ErrChanged) {
			return err
		}
		look = true
	}
	return fmt.Errorf("%s: %w, %d times", name, ErrChanged, tries)
}

// covers reports whether a body has all lines of another that are not over, byte by byte. It spares
// decoding them.
func covers(body, other []byte) bool {
	has, wants := split(body), split(other)
	if len(has) != len(wants) {
		return false
	}
	for i, text := range wants {
		if string(text) != over && !bytes.Equal(has[i], text) {
			return false
		}
	}
	return true
}

// bare are letters as they were pushed: what is parked, held or superseded is told by state/.
func bare(letters []*dlq.Letter) []*dlq.Letter {
	all := make([]*dlq.Letter, len(letters))
	for i, l := range letters {
		if l != nil {
			c := *l
			c.Item.Parked, c.Item.Held, c.Item.Spilled, c.Item.SupersededBy = false, false, false, ""
			all[i] = &c
		}
	}
	return all
}

// merge puts letters on those lines of an object that have none that can be read. It returns nil
// when all of them are there.
func merge(sink string, g group, body []byte, letters []*dlq.Letter) ([]byte, error) {
	there, _, _ := decode(sink, g, body)
	lines := split(body)
	for len(lines) < len(letters) {
		lines = append(lines, []byte(over))
	}
	changed := false
	for i, l := range bare(letters) {
		switch {
		case l == nil:
		case there[i] != nil && there[i].Identity != l.Identity:
			return nil, fmt.Errorf("line %d of %s: %w", i, g.open(sink), errConflict)
		case there[i] == nil:
			b, err := encode([]*dlq.Letter{l})
			if err != nil {
				return nil, err
			}
			lines[i], changed = bytes.TrimSuffix(b, []byte("\n")), true
		}
	}
	if !changed {
		return nil, nil
	}
	return append(bytes.Join(lines, []byte("\n")), '\n'), nil
}

// state is the body of an object of state/.
type state struct {
	Parked bool `json:"parked,omitempty"`
	Held   bool `json:"held,omitempty"`
	// SupersededBy is dlq.Item.SupersededBy.
	SupersededBy string `json:"superseded_by,omitempty"`
}

// writeState makes state/ say whether the dead letter of an address is parked, held or superseded.
func (k *Keeper) writeState(ctx context.Context, sink, address string, s state) error {
	name := stateName(sink, address)
	if s == (state{}) {
		return k.remove(ctx, []string{name})
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	const tries = 10
	for range tries {
		if err := k.put(ctx, name, body); !errors.Is(err, ErrExists) {
			return err
		}
		o, err := k.get(ctx, name)
		if err == nil && bytes.Equal(o.Body, body) {
			return nil
		}
		if errors.Is(err, ErrTooLarge) {
			if err := k.remove(ctx, []string{name}); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := k.replace(ctx, name, o.Tag, body); !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("%s: %w, %d times", name, ErrChanged, tries)
}

// applyState makes a letter wait that is parked, held or superseded. One that cannot be read holds its letter: an operator
// looks at it, and nothing is sent that perhaps must not.
func (k *Keeper) applyState(ctx context.Context, sink string, l *dlq.Letter, damaged damage) error {
	name := stateName(sink, l.Item.Journal)
	o, err := k.get(ctx, name)
	var s state
	switch {
	case errors.Is(err, ErrNotFound):
	case errors.Is(err, ErrTooLarge):
		damaged.tell(ctx, name, err)
		s.Held = true
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(o.Body, &s); err != nil {
			damaged.tell(ctx, name, err)
			s = state{Held: true}
		}
	}
	l.Item.Parked, l.Item.Held, l.Item.SupersededBy = s.Parked, s.Held, s.SupersededBy
	return nil
}
