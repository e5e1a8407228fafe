-- noted.lua: notes addresses that are over, and ids that the journal lacks, at the end of a push,
-- which wraps it in the function note. Only here it may free memory first: a Redis at
-- maxmemory is to refuse what is stored before.

free_first()
call('HSETNX', meta, 'journal_to', '0-0')
if #over > 0 then
  call('SADD', ended, unpack(over))
end
call('SADD', unjournaled, unpack(lacking))
