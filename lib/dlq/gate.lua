-- gate.lua: takes, renews or gives back the canary's gate of a sink.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     token
--       2     for how long, in ms; 0: give it back
-- Returns 1 when the token holds the gate now, else 0.

free_first()
local token, ttl, now = ARGV[1], tonumber(ARGV[2]), now_ms()
local g = call('HMGET', meta, 'gate', 'gate_until')
local mine = g[1] == token
if ttl == 0 then
  if mine then
    call('HDEL', meta, 'gate', 'gate_until')
  end
  return 0
end
if g[1] and not mine and tonumber(g[2]) > now then
  return 0
end
call('HSET', meta, 'gate', token, 'gate_until', now + ttl)
return 1
