-- look.lua: what is known of a sink's receivers.
--
-- KEYS  1  the queue's meta
--       2  flow: receiver -> state
--       3  holds: rate key -> until (Unix us)
-- ARGV  1  how long after its end a hold is remembered (us)
-- Returns the time (Unix ms), 1 when the sink is paused (else 0), the rate keys that are held, each with
-- until when, and then each receiver with its state.

local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local out = { math.floor(now / 1000), redis.call('HGET', KEYS[1], 'paused') == '1' and 1 or 0 }
out[3] = redis.call('ZRANGEBYSCORE', KEYS[3], string.format('%.0f', now - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
local flow = redis.call('HGETALL', KEYS[2])
for i = 1, #flow do
  out[#out + 1] = flow[i]
end
return out
