-- return.lua: pushes dead letters again that the journal has. It changes nothing that is there, and
-- removes nothing.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     token of who works on the journal
--       2     most entries in the stream, without the kept ones; 0: no bound; negative: none
--       3..5  most groups, most contents, what is known (push.lua)
--       then for each item as in push.lua: push key, content's fingerprint, group, group's text,
--       not before, item, address; and the address '@<native id>' that this stands for, or '', the key of its delivery, 'p', 'h', 'ph' or '' where it is parked or
--       held (and a bar and superseded_by, where it is superseded), and the native id of what present.lua found, or ''
-- Returns {status, id, more, ...}, or {-1} when the token does not hold the lease. The status is
-- 'stored', 'exists', 'compare' or 'full', as in push.lua, but an entry whose time is over exists
-- as well; or 'ended', 'canceled'.

if not works(ARGV[1]) then
  return { -1 }
end
local max, max_groups, max_contents, known = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local over, lacking
local out, more = {}, {} -- these by the names of push.lua
-- count.lua
local len, now, find = call('XLEN', stream), now_ms(), finder()

for i = 6, #ARGV, 11 do
  local k, f, g, group_text, n, item, j, alias, delivery, wait, there = unpack(ARGV, i, i + 10)
  local x = '' -- when it expires
  if n ~= '0' and n ~= 'never' then
    n, x = string.match(n, '^([^ ]*) ?(.*)$')
  end
  local status, id, detail, others, told
  if call('SISMEMBER', ended, j) == 1 or alias ~= '' and call('SISMEMBER', ended, alias) == 1 then
    status, id, detail = 'ended', '', ''
  elseif there ~= '' and not call('ZSCORE', kept, there) then
    local fields = fields_of(there)
    if fields then
      local _
      _, _, _, _, told = small(fields)
      status, id, detail = 'exists', there, ''
    end
  end
  local under = not status and call('HGET', ids, k)
  if under then
    status, id, detail, told = find(under, f, known, '*')
    others = id
  end
  if not status then
    local till = call('ZSCORE', canceled, delivery)
    if till and tonumber(till) > now then
      status, id, detail = 'canceled', '', ''
    elseif max ~= 0 and len - call('ZCARD', kept) >= max then
      status, id, detail = 'full', '', ''
    end
  end
  if not status then
    -- store.lua
    if wait ~= '' and not marked then
      local flags, by = string.match(wait, '^([^|]*)|?(.*)$')
      local s = { parked = flags ~= 'h' or nil, held = flags ~= 'p' or nil, superseded_by = by ~= '' and by or nil }
      call('HSET', state, id, cjson.encode(s))
      if s.parked then
        call('HINCRBY', meta, 'parked', 1)
      end
      if n ~= 'never' then
        call('HINCRBY', meta, 'idle', 1)
        call('ZREM', due, id)
      end
    end
  end
  if status == 'exists' and j ~= told and not (told == '' and alias == '@' .. id) then
    over, lacking = over or {}, lacking or {}
    over[#over + 1] = j
    lacking[#lacking + 1] = id
  end
  out[#out + 1] = status
  out[#out + 1] = id
  out[#out + 1] = detail
end
count_in()
-- noted.lua
return out
