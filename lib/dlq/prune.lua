-- prune.lua: removes notes of canceled deliveries whose time is over.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     most notes
-- Returns how many it removed.

local over = call('ZRANGEBYSCORE', canceled, '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
if #over > 0 then
  call('ZREM', canceled, unpack(over))
end
return #over
