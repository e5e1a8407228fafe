-- unpark.lua: makes an item due now that is not due, or not yet; one whose time is over, or that is
-- superseded, stays as it is. Who died with a lease that ran out is charged to it (death.lua).
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     native id
-- Returns 1, 0 when there is no such entry, -1 when a replay holds it.

local id = ARGV[1]
free_first()
local now = now_ms()
local fields = fields_of(id)
if not fields then
  return 0
end
if is_leased(id, now) then
  return -1
end
local _, _, n, x, j = small(fields)
local text = call('HGET', state, id)
local s = decoded(text)
if s.delivered_at or s.expired or s.superseded_by or x ~= '' and tonumber(x) <= now then
  return 1
end
local rec = call('HGET', lease, id)
local was_idle, since
if rec then
  local prior = parse(rec)
  was_idle, since = prior == '-', prior
else
  was_idle, since = idle(id, n), call('ZSCORE', due, id) or ms_of(id)
end
if not was_idle and tonumber(since) <= now then
  return 1
end
if rec then
  s = decoded(outlived(id, rec, now))
  call('HDEL', lease, id)
end
if was_idle then
  count('idle', -1, id)
end
if s.parked then
  count('parked', -1, id)
end
if s.parked or s.held then
  s.parked, s.held = nil, nil
  if address_of(id, j) then
    call('SADD', unjournaled, 's:' .. id)
  end
  if next(s) then
    call('HSET', state, id, cjson.encode(s))
  else
    call('HDEL', state, id)
  end
end
-- Later than the push, which tells it from a fresh entry.
call('ZADD', due, math.max(now, ms_of(id) + 1), id)
return 1
