package dlq

import (
	_ "embed" // the scripts
	"fmt"
	"strings"

	"backstop/internal/redisconn"
)

// The scripts: clock.lua, prelude.lua, the parts that they need, and their own text.
var (
	//go:embed clock.lua
	clockSource string
	//go:embed prelude.lua
	preludeSource string
	//go:embed entry.lua
	entrySource string
	//go:embed death.lua
	deathSource string
	//go:embed begin.lua
	beginSource string
	//go:embed lease.lua
	leaseSource string
	//go:embed trim.lua
	trimSource string
	//go:embed find.lua
	findSource string
	//go:embed anew.lua
	anewSource string
	//go:embed push.lua
	pushSource string
	//go:embed claim.lua
	claimSource string
	//go:embed peek.lua
	peekSource string
	//go:embed native.lua
	nativeSource string
	//go:embed room.lua
	roomSource string
	//go:embed held.lua
	heldSource string
	//go:embed take.lua
	takeSource string
	//go:embed overdue.lua
	overdueSource string
	//go:embed delivery.lua
	deliverySource string
	//go:embed canceled.lua
	canceledSource string
	//go:embed prune.lua
	pruneSource string
	//go:embed settle.lua
	settleSource string
	//go:embed release.lua
	releaseSource string
	//go:embed discard.lua
	discardSource string
	//go:embed unpark.lua
	unparkSource string
	//go:embed gate.lua
	gateSource string
	//go:embed pause.lua
	pauseSource string
	//go:embed stats.lua
	statsSource string
	//go:embed mend.lua
	mendSource string
	//go:embed groups.lua
	groupsSource string
	//go:embed group_note.lua
	groupNoteSource string
	//go:embed history.lua
	historySource string
	//go:embed new_groups.lua
	newGroupsSource string
	//go:embed newest.lua
	newestSource string
	//go:embed store.lua
	storeSource string
	//go:embed count.lua
	countSource string
	//go:embed noted.lua
	notedSource string
	//go:embed works.lua
	worksSource string
	//go:embed journal_lease.lua
	journalLeaseSource string
	//go:embed journal_save.lua
	journalSaveSource string
	//go:embed journal_note.lua
	journalNoteSource string
	//go:embed unjournaled.lua
	unjournaledSource string
	//go:embed journaled.lua
	journaledSource string
	//go:embed present.lua
	presentSource string
	//go:embed present_after.lua
	presentAfterSource string
	//go:embed return.lua
	returnSource string
	//go:embed retire.lua
	retireSource string
	//go:embed succession.lua
	successionSource string
	//go:embed supersede.lua
	supersedeSource string
	//go:embed superseded.lua
	supersededSource string

	pushScript = redisconn.NewScript(func() string {
		return join(clockSource, nativeSource, apart("trimmer", entrySource, trimSource), apart("finder", findSource),
			apart("start_anew", anewSource), storing(pushSource))
	})
	claimScript     = script(constants, entrySource, deathSource, leaseSource, claimSource)
	peekScript      = script(entrySource, peekSource)
	roomScript      = script(entrySource, roomSource)
	heldScript      = script(entrySource, heldSource)
	takeScript      = script(constants, entrySource, deathSource, leaseSource, takeSource)
	overdueScript   = script(constants, entrySource, deathSource, leaseSource, overdueSource)
	deliveryScript  = script(constants, entrySource, deathSource, leaseSource, deliverySource)
	canceledScript  = script(canceledSource)
	pruneScript     = script(pruneSource)
	beginScript     = script(entrySource, beginSource)
	settleScript    = script(constants, entrySource, settleSource)
	releaseScript   = script(entrySource, releaseSource)
	discardScript   = script(entrySource, discardSource)
	unparkScript    = script(constants, entrySource, deathSource, unparkSource)
	gateScript      = script(gateSource)
	pauseScript     = script(pauseSource)
	statsScript     = script(entrySource, statsSource)
	mendScript      = scriptOf(func() []string { return []string{entrySource, wrapped("start_anew", anewSource), mendSource} })
	groupsScript    = script(groupsSource)
	groupNoteScript = script(groupNoteSource)
	historyScript   = script(historySource)
	newGroupsScript = script(newGroupsSource)
	newestScript    = redisconn.Source(newestSource)

	journalLeaseScript = script(journalLeaseSource)
	journalSaveScript  = script(worksSource, journalSaveSource)
	journalNoteScript  = script(journalNoteSource)
	unjournaledScript  = script(entrySource, unjournaledSource)
	journaledScript    = script(worksSource, journaledSource)
	presentScript      = script(entrySource, presentSource)
	presentAfterScript = script(entrySource, presentAfterSource)
	returnScript       = scriptOf(func() []string {
		return []string{nativeSource, entrySource, worksSource, wrapped("finder", findSource), wrapped("start_anew", anewSource), storing(returnSource)}
	})
	retireScript = script(entrySource, retireSource)

	supersedeScript = scriptOf(func() []string {
		return []string{
			nativeSource, constants, entrySource, deathSource, leaseSource, successionSource, wrapped("finder", findSource),
			wrapped("start_anew", anewSource), storing(supersedeSource),
		}
	})
	supersededScript = script(constants, entrySource, deathSource, successionSource, supersededSource)
)

// constants tell the scripts that lease and settle what Go says too.
var constants = fmt.Sprintf("local MAX_HISTORY, KEEP_CLAIM = %d, %d\nlocal DIED_UNDER = [[%s]]",
	MaxHistory, claimRetention.Milliseconds(), DiedUnder)

// wrapped makes parts a function.
func wrapped(name string, parts ...string) string {
	return "local function " + name + "()\n" + join(parts...) + "\nend"
}

// apart is wrapped with a prelude of its own. A function pays for each local of the script that it
// uses whenever the script runs, called or not: the rare parts of a push use none but now_ms, and
// a push that needs none of them is a tenth cheaper.
func apart(name string, parts ...string) string {
	return wrapped(name, append([]string{preludeSource}, parts...)...)
}

// storing puts store.lua, count.lua and noted.lua where a script says so.
func storing(source string) string {
	source = strings.Replace(source, "-- store.lua\n", storeSource, 1)
	source = strings.Replace(source, "-- count.lua\n", countSource, 1)
	return strings.Replace(source, "-- noted.lua\n", notedSource, 1)
}

func join(parts ...string) string { return strings.Join(parts, "\n") }

// script puts parts behind the prelude.
func script(parts ...string) redisconn.Script { return scriptOf(func() []string { return parts }) }

func scriptOf(parts func() []string) redisconn.Script {
	return redisconn.NewScript(func() string { return join(append([]string{clockSource, preludeSource}, parts()...)...) })
}
