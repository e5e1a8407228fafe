-- shards.lua: tells over how many shards the dead letters of sinks are spread, and notes that it is to be more.
--
-- KEYS[1]  the hash of all sinks that ever had more than one: "<most> <since, Unix ms> <before>"
-- ARGV     1   after how long a number that is new holds, ms: until then pushes go by the one before
--          2   a sink ('': none), and
--          3   how many shards it is to have, at least
-- Returns  {sink, most, how many hold now, ...}

local call = redis.call

local function read(text)
  local most, since, before = string.match(text or '', '^(%d+) (%d+) (%d+)$')
  if not most then
    return 1, 1
  end
  if now_ms() - since >= tonumber(ARGV[1]) then
    return tonumber(most), tonumber(most)
  end
  return tonumber(most), tonumber(before)
end

if ARGV[2] ~= '' then
  local most, holds = read(call('HGET', KEYS[1], ARGV[2]))
  if tonumber(ARGV[3]) > most then
    call('HSET', KEYS[1], ARGV[2], string.format('%d %.0f %d', ARGV[3], now_ms(), holds))
  end
end
local out = {}
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local most, holds = read(all[i + 1])
  out[#out + 1], out[#out + 2], out[#out + 3] = all[i], most, holds
end
return out
