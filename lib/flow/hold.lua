-- hold.lua: changes until when a rate key of a sink is held. All times are Unix us.
--
-- KEYS  1  the holds: rate key -> until
-- ARGV  1  set, probe, end, back or lift
--       2  rate key
--       3  until when, of set and probe
--       4  the probe that ends with it; 0: none does
--       5  how long after its end a hold is remembered
--       6  how many are kept: those that end soonest make room
-- Returns until when it is held now (0: it is not), and the time.

local change, key, at, mine, aftermath, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
-- A full Redis takes what comes after a write that frees memory.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - aftermath))
if change == 'lift' then
  redis.call('DEL', KEYS[1])
  return { 0, now }
end
local old = tonumber(redis.call('ZSCORE', KEYS[1], key) or 0)
local new = old
local own = old ~= 0 and old == mine
if change == 'end' and own then
  new = 0
elseif change == 'back' and own then
  new = now - now % 2
elseif change == 'set' then
  new = own and at or math.max(old, at)
elseif change == 'probe' and old ~= 0 and old <= now then
  new = at
end
if new == 0 and old ~= 0 then
  redis.call('ZREM', KEYS[1], key)
elseif new ~= old then
  local over = redis.call('ZCARD', KEYS[1]) + (old == 0 and 1 or 0) - most
  if over > 0 then
    redis.call('ZPOPMIN', KEYS[1], over)
  end
  redis.call('ZADD', KEYS[1], string.format('%.0f', new), key)
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.floor((tonumber(last[2]) - now + aftermath) / 1000) + 1000))
end
return { new, now }
