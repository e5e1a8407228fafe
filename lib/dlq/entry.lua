-- entry.lua: what the scripts that lease, settle and remove know of an entry.

-- small returns an entry's push key, group and not-before: '' where others wrote it.
local function small(fields)
  local k, g, n = '', '', ''
  for i = 1, #fields, 2 do
    local f = fields[i]
    if f == 'k' then
      k = fields[i + 1]
    elseif f == 'g' then
      g = fields[i + 1]
    elseif f == 'n' then
      n = fields[i + 1]
    end
  end
  if string.find(k, '|', 1, true) or string.find(g, '|', 1, true) then
    k, g = '', ''
  end
  return k, g, n
end

local function size_of(fields)
  local n = 0
  for i = 1, #fields do
    n = n + #fields[i]
  end
  return n
end

-- A lease record: prior|push key|group|token. prior is what the entry was before: the
-- time at which it was due (ms), or '-' when it was idle, that is not due by itself.
local function parse(rec)
  return string.match(rec, '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
end

-- idle tells whether an entry that nobody leases is not due by itself. Entries that
-- were replayed have a state; of those, the due ones are in the due set.
local function idle(id, n)
  if call('ZSCORE', due, id) then
    return false
  end
  return n == 'never' or call('HEXISTS', state, id) == 1
end

-- uncount takes n dead letters off a group.
local function uncount(g, n)
  if call('HINCRBY', groups, 'n:' .. g, -n) <= 0 then
    call('HDEL', groups, 'n:' .. g, 't:' .. g)
  end
end

-- remove_all deletes entries and all that is kept about them. Each is {id, whether it was
-- idle, push key, group}; there are at most some hundred. A call to Redis costs more than
-- what it does here, so there is one for all.
local function remove_all(entries)
  if #entries == 0 then
    return
  end
  local gone, push_keys, owners, by_group, idles = {}, {}, {}, {}, 0
  for i, e in ipairs(entries) do
    gone[i] = e[1]
    if e[2] then
      idles = idles + 1
    end
    if e[3] ~= '' then
      push_keys[#push_keys + 1] = e[3]
      owners[#push_keys] = e[1]
    end
    if e[4] ~= '' then
      by_group[e[4]] = (by_group[e[4]] or 0) + 1
    end
  end
  call('XDEL', stream, unpack(gone))
  call('ZREM', due, unpack(gone))
  if idles > 0 then
    call('HINCRBY', meta, 'idle', -idles)
  end
  for i, s in ipairs(call('HMGET', state, unpack(gone))) do
    if s then
      if cjson.decode(s).parked then
        call('HINCRBY', meta, 'parked', -1)
      end
      call('HDEL', state, gone[i])
      call('ZREM', kept, gone[i])
    end
  end
  if #push_keys > 0 then
    local own = {}
    for i, id in ipairs(call('HMGET', ids, unpack(push_keys))) do
      if id == owners[i] then
        own[#own + 1] = push_keys[i]
      end
    end
    if #own > 0 then
      call('HDEL', ids, unpack(own))
    end
  end
  for g, n in pairs(by_group) do
    uncount(g, n)
  end
end

local function remove(id, was_idle, k, g)
  remove_all({ { id, was_idle, k, g } })
end

-- held tells whether a lease that has not run out protects the entry.
local function held(id, now)
  if call('HEXISTS', lease, id) == 0 then
    return false
  end
  return tonumber(call('ZSCORE', due, id) or 0) > now
end

-- evict removes an entry that is not held, given its fields.
local function evict(id, fields)
  local k, g, n = small(fields)
  local was_idle
  local rec = call('HGET', lease, id)
  if rec then
    was_idle = parse(rec) == '-'
    call('HDEL', lease, id)
  else
    was_idle = idle(id, n)
  end
  remove(id, was_idle, k, g)
end

-- vanished clears what is left of an entry that others removed from the stream.
local function vanished(id)
  local rec = call('HGET', lease, id)
  if rec then
    call('HDEL', lease, id)
    local prior, k, g = parse(rec)
    remove(id, prior == '-', k, g)
  else
    remove(id, idle(id, ''), '', '')
  end
end

local function fields_of(id)
  local e = call('XRANGE', stream, id, id)
  return e[1] and e[1][2]
end
