package main

import (
	"github.com/spf13/cobra"
)

func newDLQ() *cobra.Command {
	c := &cobra.Command{
		Use:   "dlq",
		Short: "Look into the dead-letter queue; replay, discard and restore",
		Long: `Dead letters are deliveries that failed and are kept. The schedule replays most of them by itself; those that
no repetition can cure (reason terminal, ambiguous, invalid) and those that it gave up on (parked, held) wait
for you.

The first minutes of an incident:

  backstop sinks                                    which sink, how many, how old
  backstop dlq groups                               why, since when, and whether it goes on
  backstop dlq chart                                when it began
  backstop dlq list --sink S --reason R             which messages
  backstop dlq show ID                              one in full
  backstop sinks pause S                            stop trying while it is being fixed
  backstop dlq replay --sink S --reason R --dry-run how many would be replayed
  backstop dlq replay --sink S --reason R           replay them, with a question before and progress

After the loss of a cache, where the stack has a journal:

  backstop dlq restore                              bring back what the queue lost
  backstop dlq audit                                is anything unaccounted for?

` + connectHelp,
	}
	conn := addConnection(c)
	group(c, nil)
	c.AddCommand(
		newDLQList(conn), newDLQShow(conn), newDLQCount(conn), newDLQGroups(conn), newDLQChart(conn),
		newDLQReplay(conn), newDLQDiscard(conn), newDLQUnpark(conn),
		newDLQExport(conn), newDLQImport(conn), newDLQRestore(conn), newDLQAudit(conn), newDLQErase(conn), newOperations(conn),
	)
	return c
}
