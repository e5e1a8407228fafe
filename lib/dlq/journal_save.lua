-- journal_save.lua: keeps the notes of who works on a sink's journal.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     token
--       2     notes, JSON
-- Returns 1, or 0 when the token does not hold the lease.

if not works(ARGV[1]) then
  return 0
end
free_first()
call('HSET', meta, 'journal', ARGV[2])
return 1
