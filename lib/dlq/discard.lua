-- discard.lua: removes a dead letter with all that is kept about it.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     native id
-- Returns 1, 0 when there is no such entry, -1 when a replay holds it.

local id = ARGV[1]
if is_leased(id, now_ms()) then
  return -1
end
local fields = fields_of(id)
if not fields then
  return 0
end
evict(id, fields)
return 1
