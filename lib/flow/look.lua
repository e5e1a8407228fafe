-- look.lua: what is known of a sink's receivers.
--
-- KEYS  1  the queue's meta
--       2  flow: receiver -> state
-- Returns the time (Unix ms), 1 when the sink is paused (else 0), and each receiver with its
-- state.

local t = redis.call('TIME')
local out = { t[1] * 1000 + math.floor(t[2] / 1000), redis.call('HGET', KEYS[1], 'paused') == '1' and 1 or 0 }
local flow = redis.call('HGETALL', KEYS[2])
for i = 1, #flow do
  out[#out + 1] = flow[i]
end
return out
