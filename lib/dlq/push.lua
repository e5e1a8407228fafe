-- push.lua: stores dead letters.
--
-- KEYS  1..8  the queue (prelude.lua)
-- ARGV  1     most entries in the stream, 0: no bound
--       2     '1': at the bound remove the oldest (trim), '0': refuse
--       3     most groups
--       then for each item: push key, group, group's text, not-before, item
-- Returns {removed, status, id, status, id, ...}; the status is 'stored', 'exists' (with
-- the id of the entry that was stored before) or 'full'.
--
-- The push key is looked up first, must lead to an entry that exists, and is written
-- last: a refused or discarded dead letter is never taken for a stored one.

local max, trim = tonumber(ARGV[1]), ARGV[2] == '1'
local out = { 0 }
local make_room -- once there is need
local more = {} -- groups of this call, and how many are not counted yet

local function count_more()
  for g, n in pairs(more) do
    if n > 0 then
      call('HINCRBY', groups, 'n:' .. g, n)
    end
  end
  more = {}
end

local function full()
  if max == 0 then
    return false
  end
  local len = call('XLEN', stream)
  if len < max then
    return false
  end
  if trim then
    count_more() -- it takes those that it removes off
    make_room = make_room or trimmer()
    out[1] = out[1] + make_room(len - max + 1)
    return false
  end
  return len - call('ZCARD', kept) >= max
end

for i = 4, #ARGV, 5 do
  local k, g, n = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local id = call('HGET', ids, k)
  if id and #call('XRANGE', stream, id, id) == 1 then
    out[#out + 1] = 'exists'
    out[#out + 1] = id
  elseif full() then
    out[#out + 1] = 'full'
    out[#out + 1] = ''
  else
    if more[g] then
      more[g] = more[g] + 1
    else
      more[g] = 0
      if call('HINCRBY', groups, 'n:' .. g, '1') == 1 then
        -- A new group; each has two fields.
        if call('HLEN', groups) > 2 * tonumber(ARGV[3]) then
          call('HDEL', groups, 'n:' .. g)
          more[g] = nil
          g = ''
        else
          call('HSET', groups, 't:' .. g, ARGV[i + 2])
        end
      end
    end
    id = call('XADD', stream, '*', 'item', ARGV[i + 4], 'k', k, 'g', g, 'n', n)
    call('HSET', ids, k, id)
    if n == 'never' then
      call('HINCRBY', meta, 'idle', '1')
    elseif n ~= '0' then
      call('ZADD', due, n, id)
    end
    out[#out + 1] = 'stored'
    out[#out + 1] = id
  end
end
count_more()
return out
