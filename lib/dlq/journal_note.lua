-- journal_note.lua: adds to one of the sets that are kept for a journal.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     'ended' or 'unjournaled'
--       2..   members
-- Returns 1.

free_first()
if ARGV[1] == 'ended' then
  call('SADD', ended, unpack(ARGV, 2))
else
  call('HSETNX', meta, 'journal_to', '0-0') -- the ends of what has no address are to be noted
  call('SADD', unjournaled, unpack(ARGV, 2))
end
return 1
