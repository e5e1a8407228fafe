-- begin.lua: notes that the replay of a leased entry begins.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1, 2  native id, token
-- Returns 1, or 0 when the token does not hold a lease that is still running.

local id, token = ARGV[1], ARGV[2]
local rec = call('HGET', lease, id)
if not rec then
  return 0
end
local _, _, _, holder = parse(rec)
if holder ~= token or not is_leased(id, now_ms()) then
  return 0
end
free_first()
local s = decoded(call('HGET', state, id))
s.begun = token
call('HSET', state, id, cjson.encode(s))
return 1
