-- rate.lua: takes slots of a receiver's rate (GCRA), in order. All times are Unix us.
--
-- KEYS  1.. the rates, of one receiver or of its rate keys: "<real> <spaced>", the cursor that hands out
--           slots and the one that only spaces what was refused
-- ARGV  1   interval between two slots in the long run
--       2   how much earlier slots may be after a pause
--       3   how far ahead what is refused is spread
--       4   a number in [0, 1) for what would be beyond that
--       5.. for each slot: after when it is of no use, and the number of its rate in KEYS
-- Returns for each slot 1 and when it is, or 0 and when to come again.

local interval, tolerance, furthest, random = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local reals, spaceds = {}, {}
for n = 1, #KEYS do
  local real, spaced = string.match(redis.call('GET', KEYS[n]) or '0 0', '^(%d+) (%d+)$')
  reals[n], spaceds[n] = tonumber(real or 0), tonumber(spaced or 0)
end
local out = {}
for i = 5, #ARGV, 2 do
  local n = tonumber(ARGV[i + 1])
  local real, spaced = reals[n], spaceds[n]
  local at = math.max(now, real - tolerance)
  if at <= tonumber(ARGV[i]) then
    reals[n] = math.max(real, now) + interval
    out[#out + 1], out[#out + 2] = 1, at
  else
    spaced = math.max(spaced, real, now) + interval
    at = spaced
    if spaced > now + furthest then
      spaced = now + furthest
      at = now + math.floor(random * furthest)
    end
    spaceds[n] = spaced
    out[#out + 1], out[#out + 2] = 0, at
  end
end
for n = 1, #KEYS do
  local ttl = math.max(reals[n], spaceds[n]) - now
  redis.call('SET', KEYS[n], string.format('%.0f %.0f', reals[n], spaceds[n]), 'PX', math.floor(ttl / 1000) + 1000)
end
return out
