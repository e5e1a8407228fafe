package journal

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// damage counts objects of a sink that are damaged, each once, and logs the first ones by name. It is safe for
// concurrent use.
type damage struct{ *damages }

type damages struct {
	log  *slog.Logger // nil: it only collects
	sink string

	mu   sync.Mutex
	seen map[string]error
}

// named is how many damaged objects are logged one by one.
const named = 5

func (k *Keeper) newDamage(sink string) damage { return damage{&damages{log: k.log(), sink: sink}} }

// collected counts and logs nothing by itself: see add.
func collected() damage { return damage{&damages{}} }

func (d damage) tell(ctx context.Context, name string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[name] != nil {
		return
	}
	if d.seen == nil {
		d.seen = map[string]error{}
	}
	d.seen[name] = err
	if d.log != nil && len(d.seen) <= named {
		d.log.WarnContext(ctx, "an object of the journal is damaged", "sink", d.sink, "object", clip(name), "error", err)
	}
}

// add counts what another collected.
func (d damage) add(ctx context.Context, other damage) {
	for name, err := range other.seen {
		d.tell(ctx, name, err)
	}
}

var errForeign = errors.New("it is no name of this journal")

// foreign is tell for a name that is none of this journal.
func (d damage) foreign(ctx context.Context) func(Listed) {
	return func(o Listed) { d.tell(ctx, o.Name, errForeign) }
}

func (d damage) count() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.seen))
}
