-- noted.lua: notes addresses that are over, and ids that the journal lacks. scripts.go puts it at the end
-- of push.lua and return.lua, whose locals it uses. Only there it may free memory first: a Redis at
-- maxmemory is to refuse what is stored before.

if lacking then
  call('HDEL', meta, '') -- see free_first
  call('HSETNX', meta, 'journal_to', '0-0')
  if over then
    call('SADD', KEYS[12], unpack(over)) -- ended
  end
  call('SADD', KEYS[13], unpack(lacking)) -- unjournaled
end
