-- held.lua: how many entries one of several queues of a sink has, and which could be removed first. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- Returns {entries, of these kept after their delivery, the oldest of these or '', the oldest of all or ''}: native ids of such as
-- nobody leases, among the first.

local LOOKS = 16
local now = now_ms()
local first_kept, oldest = '', ''
for _, id in ipairs(call('ZRANGE', kept, 0, LOOKS - 1)) do
  if first_kept == '' and not is_leased(id, now) then
    first_kept = id
  end
end
local from = '-'
for _ = 1, LOOKS do
  local e = call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
  if not e then
    break
  elseif not is_leased(e[1], now) then
    oldest = e[1]
    break
  end
  from = '(' .. e[1]
end
return { call('XLEN', stream), call('ZCARD', kept), first_kept, oldest }
