-- room.lua: removes an entry of one of several queues of a sink, which together have too many: as overflow.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     native id
-- Returns 1, or 0 where it is gone or leased.

local fields = not is_leased(ARGV[1], now_ms()) and fields_of(ARGV[1])
if not fields then
  return 0
end
evict(ARGV[1], fields)
call('HINCRBY', meta, 'trimmed', 1)
return 1
