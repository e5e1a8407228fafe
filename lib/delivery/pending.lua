-- pending.lua: changes which events of a delivery are pending, and nothing else of its record.
--
-- KEYS, ARGV[1..4]  as in record.lua
-- ARGV[5]  'owe' or 'told'
-- ARGV[6]  owe: what the record is where there is none, JSON; its pending events are added
-- ARGV[7]  owe: how long it is kept at least, ms
-- ARGV[6...]  told: ids of events that are not pending any more

local record, _, needed = find()
if needed then
  return needed
end
local ttl = math.max(call('PTTL', KEYS[1]), 1)

if ARGV[5] == 'owe' then
  ttl = math.max(ttl, tonumber(ARGV[7]))
  local new = cjson.decode(ARGV[6])
  if not record then
    call('SET', KEYS[1], ARGV[6], 'PX', ttl)
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
  record.sink, record.delivery_id, record.pending = new.sink, new.delivery_id, pending
elseif record and record.pending then
  local told, left = {}, {}
  for i = 6, #ARGV do
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
keep(record, ttl)
return 1
