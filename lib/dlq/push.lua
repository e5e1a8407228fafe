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

-- A call to Redis costs more than what it does here, so what can be read or written for all
-- items at once is.

local max, trim, max_groups = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])

local asked = {}
for i = 4, #ARGV, 5 do
  asked[#asked + 1] = ARGV[i]
end
local stored, seen = {}, {} -- ids by push key, and the keys of this call
local new = 0
for i, id in ipairs(call('HMGET', ids, unpack(asked))) do
  local k = asked[i]
  if not seen[k] then
    seen[k] = true
    if id and #call('XRANGE', stream, id, id) == 1 then
      stored[k] = id
    else
      new = new + 1
    end
  end
end

-- group counts an item and returns its group, '' when there are too many.
local counts, names = {}, {}
local function group(g, text)
  if names[g] then
    if names[g] ~= '' then
      counts[g] = (counts[g] or 0) + 1
    end
    return names[g]
  end
  names[g] = g
  if call('HINCRBY', groups, 'n:' .. g, 1) == 1 then
    -- A new group; each has two fields.
    if call('HLEN', groups) > 2 * max_groups then
      call('HDEL', groups, 'n:' .. g)
      names[g] = ''
    else
      call('HSET', groups, 't:' .. g, text)
    end
  end
  return names[g]
end

-- flush writes what is noted of the entries so far.
local keys = {} -- pairs of push key and id
local function flush()
  for g, n in pairs(counts) do
    call('HINCRBY', groups, 'n:' .. g, n)
  end
  if #keys > 0 then
    call('HSET', ids, unpack(keys))
  end
  counts, names, keys = {}, {}, {}
end

local out = { 0 }
local make_room -- once there is need
local function full(adding)
  if max == 0 then
    return false
  end
  local over = call('XLEN', stream) + adding - max
  if over <= 0 then
    return false
  end
  if trim then
    flush() -- what was just pushed may have to go
    make_room = make_room or trimmer()
    out[1] = out[1] + make_room(over)
    return false
  end
  return over > call('ZCARD', kept)
end

if trim and new > 1 then
  full(math.min(new, max))
end
for i = 4, #ARGV, 5 do
  local k, n = ARGV[i], ARGV[i + 3]
  local id = stored[k]
  if id then
    out[#out + 1] = 'exists'
    out[#out + 1] = id
  elseif full(1) then
    out[#out + 1] = 'full'
    out[#out + 1] = ''
  else
    id = call('XADD', stream, '*', 'item', ARGV[i + 4], 'k', k, 'g', group(ARGV[i + 1], ARGV[i + 2]), 'n', n)
    stored[k] = id
    keys[#keys + 1] = k
    keys[#keys + 1] = id
    if n == 'never' then
      call('HINCRBY', meta, 'idle', 1)
    elseif n ~= '0' then
      call('ZADD', due, n, id)
    end
    out[#out + 1] = 'stored'
    out[#out + 1] = id
  end
end
flush()
return out
