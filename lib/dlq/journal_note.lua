-- journal_note.lua: adds to one of the sets that are kept for a journal.
--
-- KEYS  1..13 the queue (prelude.lua)
-- ARGV  1     'ended' or 'unjournaled'
--       2..   members
-- Returns 1.

free_first()
call('SADD', ARGV[1] == 'ended' and ended or unjournaled, unpack(ARGV, 2))
return 1
