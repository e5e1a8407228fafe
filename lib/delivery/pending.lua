-- pending.lua: changes which events of a delivery are pending, and nothing else of its record.
--
-- KEYS[1]  the record (string, JSON, TTL)
-- ARGV[1]  'owe' or 'told'
-- ARGV[2]  owe: what the record is where there is none, JSON; its pending events are added
-- ARGV[3]  owe: how long it is kept at least, ms
-- ARGV[2...]  told: ids of events that are not pending any more

local found = redis.call('GET', KEYS[1])
local record = found and cjson.decode(found)
local ttl = math.max(redis.call('PTTL', KEYS[1]), 1)

if ARGV[1] == 'owe' then
  ttl = math.max(ttl, tonumber(ARGV[3]))
  local new = cjson.decode(ARGV[2])
  if not record then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ttl)
    return 1
  end
  local pending, known = record.pending or {}, {}
  for _, e in ipairs(pending) do
    known[e.id] = true
  end
  for _, e in ipairs(new.pending) do
    if not known[e.id] then
      pending[#pending + 1] = e
    end
  end
  record.pending = pending
elseif record and record.pending then
  local told, left = {}, {}
  for i = 2, #ARGV do
    told[ARGV[i]] = true
  end
  for _, e in ipairs(record.pending) do
    if not told[e.id] then
      left[#left + 1] = e
    end
  end
  record.pending = #left > 0 and left or nil
else
  return 0
end
redis.call('SET', KEYS[1], cjson.encode(record), 'PX', ttl)
return 1
