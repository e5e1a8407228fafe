-- entry.lua: what the scripts that lease, settle and remove know of an entry.

-- is_after compares native ids.
local function is_after(a, b)
  local am, as = string.match(a, '^(%d+)-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)-(%d+)$')
  am, bm = tonumber(am), tonumber(bm)
  return am > bm or am == bm and tonumber(as) > tonumber(bs)
end

-- ids leads from a push key to what was pushed under it, oldest first, with a space in
-- between: <content's fingerprint>:<native id>, or a native id alone. The entry of that
-- says what its content is; one that an older version pushed does not.
local function id_of(pair)
  return string.match(pair, '[^:]*$')
end

-- small returns an entry's push key, group, not-before, expiry (ms) and address in the
-- journal: '' where others wrote it, or there is none.
local function small(fields)
  local k, g, n, x, j = '', '', '', '', ''
  for i = 1, #fields, 2 do
    local f = fields[i]
    if f == 'k' then
      k = fields[i + 1]
    elseif f == 'g' then
      g = fields[i + 1]
    elseif f == 'n' then
      n = fields[i + 1]
    elseif f == 'x' then
      x = fields[i + 1]
    elseif f == 'j' then
      j = fields[i + 1]
    end
  end
  if j ~= '' and string.find(j, '[^!-+%-.-{}~]') then
    j = '' -- a record of a lease cannot tell it
  end
  if string.find(k, '|', 1, true) or string.find(g, '|', 1, true) then
    k, g = '', ''
  end
  return k, g, n, k ~= '' and tonumber(x) and x or '', j
end

local function size_of(fields)
  local n = 0
  for i = 1, #fields do
    n = n + #fields[i]
  end
  return n
end

-- A lease record: prior|push key|group|token, |quiet where nothing is sent under the lease (a
-- bar alone if more follows), and |address of an entry that has one in the journal. prior
-- is what the entry was before: the time at which it was due (ms), or '-' when it was
-- idle, that is not due by itself.
local function parse(rec)
  return string.match(rec, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|?([^|]*)|?(.*)$')
end

-- is_idle tells whether an entry that nobody leases is in a state that the schedule leaves
-- alone: delivered, expired, parked or waiting (State in state.go). Entries that were replayed have a
-- state; of those, the due and the scheduled ones have a score in the due set.
local function is_idle(score, n, has_state)
  return not score and (n == 'never' or has_state)
end

local function idle(id, n)
  return is_idle(call('ZSCORE', due, id), n, call('HEXISTS', state, id) == 1)
end

-- count changes a counter (idle, parked, expired) by what became of an entry. The numbers beside
-- the stream are recounted now and then (mend.lua): while that is under way, what becomes
-- of an entry that was counted already changes the new number too.
local recounted -- up to this id; false: no recount is under way
local journaled -- false: there is no journal
local function look()
  if recounted == nil then
    recounted, journaled = unpack(call('HMGET', meta, 'recount', 'journal_to'))
  end
end

local function was_recounted(id)
  look()
  return recounted and not is_after(id, recounted)
end

-- address_of returns the address by which the journal has an entry, given its own ('': it has
-- none), or nil.
local function address_of(id, j)
  look()
  return j ~= '' and j or journaled and '@' .. id or nil
end

local function count(counter, n, id)
  call('HINCRBY', meta, counter, n)
  if was_recounted(id) then
    call('HINCRBY', meta, 'recount:' .. counter, n)
  end
end

-- strike takes ids off push keys: key -> {id -> true}, and off the generations. What other
-- contents have under the same key stays.
local function strike(by_key)
  local push_keys, empty, members = {}, {}, {}
  for k in pairs(by_key) do
    push_keys[#push_keys + 1] = k
  end
  if #push_keys == 0 then
    return
  end
  for i, v in ipairs(call('HMGET', ids, unpack(push_keys))) do
    local k = push_keys[i]
    local left, listed = {}, {}
    for pair in string.gmatch(v or '', '%S+') do
      local id = id_of(pair)
      if by_key[k][id] then
        listed[id] = true
      else
        left[#left + 1] = pair
      end
    end
    if next(listed) then
      if #left == 0 then
        empty[#empty + 1] = k
      else
        call('HSET', ids, k, table.concat(left, ' '))
      end
    end
    local first = first_of(k)
    for id in pairs(by_key[k]) do
      if k ~= first or not listed[id] then
        members[#members + 1] = first .. ' ' .. id
      end
    end
  end
  if #empty > 0 then
    call('HDEL', ids, unpack(empty))
  end
  if #members > 0 then
    call('ZREM', generations, unpack(members))
  end
end

-- What the history counts (history.lua): the entries of a group in the 5 minutes, the hour and
-- the day of their push, times 2^26 those that came, and those that are still there. A field is
-- kept for so long.
local PRESENT = 67108864
local RESOLUTIONS = { { 'm', 300000, 46800000 }, { 'h', 3600000, 777600000 }, { 'd', 86400000, 7948800000 } }

-- times_of returns the fields of the history in which an entry is counted, without its group.
local function times_of(id, now)
  local ms, fields = ms_of(id), {}
  for _, r in ipairs(RESOLUTIONS) do
    if ms > now - r[3] then
      fields[#fields + 1] = r[1] .. math.floor(ms / r[2]) .. ':'
    end
  end
  return fields
end

-- count_out takes n entries out of a field of the history. What was counted for want of fields
-- without its group goes there; what is not counted at all is left to mend.lua.
local function count_out(field, n)
  local v = call('HINCRBY', history, field, -n)
  if v < 0 then
    call('HDEL', history, field)
  elseif v % PRESENT > math.floor(v / PRESENT) then
    call('HINCRBY', history, field, n)
  else
    return
  end
  local other = string.match(field, '^[^:]*:')
  if other ~= field then
    count_out(other, n)
  end
end

-- remove_all deletes entries and all that is kept about them. Each is {id, whether it was
-- idle, push key, group, address}; there are at most some hundred. A call to Redis costs more
-- than what it does here, so there is one for all. Their addresses are over, but where others
-- removed the entry (false): then the journal has what the queue lost.
local function remove_all(entries)
  if #entries == 0 then
    return
  end
  local gone, by_key, by_group = {}, {}, {}
  local idles, idles_recounted, groups_recounted, over = 0, 0, {}, {}
  local by_time, times_recounted, now = {}, {}, now_ms()
  for i, e in ipairs(entries) do
    local id, was_idle, k, g, j = unpack(e)
    local again = was_recounted(id)
    gone[i] = id
    if was_idle then
      idles = idles + 1
      idles_recounted = idles_recounted + (again and 1 or 0)
    end
    if k ~= '' then
      by_key[k] = by_key[k] or {}
      by_key[k][id] = true
    end
    if g ~= '' then
      by_group[g] = (by_group[g] or 0) + 1
      if again then
        groups_recounted[g] = (groups_recounted[g] or 0) + 1
      end
    end
    if g ~= '' or j then
      for _, at in ipairs(times_of(id, now)) do
        by_time[at .. g] = (by_time[at .. g] or 0) + 1
        if again then
          times_recounted[at .. g] = (times_recounted[at .. g] or 0) + 1
        end
      end
    end
    over[#over + 1] = j and address_of(id, j) or nil
  end
  call('XDEL', stream, unpack(gone))
  if #over > 0 then
    local noted = {}
    for i, id in ipairs(gone) do
      noted[2 * i - 1], noted[2 * i] = id, 's:' .. id
    end
    call('SREM', unjournaled, unpack(noted))
    call('SADD', ended, unpack(over))
  end
  call('ZREM', due, unpack(gone))
  call('ZREM', expires, unpack(gone))
  if idles > 0 then
    call('HINCRBY', meta, 'idle', -idles)
  end
  if idles_recounted > 0 then
    call('HINCRBY', meta, 'recount:idle', -idles_recounted)
  end
  for i, s in ipairs(call('HMGET', state, unpack(gone))) do
    if s then
      s = decoded(s)
      if s.parked then
        count('parked', -1, gone[i])
      end
      if s.expired then
        count('expired', -1, gone[i])
      end
      call('HDEL', state, gone[i])
      call('ZREM', kept, gone[i])
    end
  end
  strike(by_key)
  for g, n in pairs(by_group) do
    if call('HINCRBY', groups, 'n:' .. g, -n) <= 0 then
      call('HDEL', groups, 'n:' .. g, 't:' .. g)
    end
  end
  for g, n in pairs(groups_recounted) do
    call('HINCRBY', meta, 'recount:n:' .. g, -n)
  end
  for field, n in pairs(by_time) do
    count_out(field, n)
  end
  for field, n in pairs(times_recounted) do
    call('HINCRBY', meta, 'recount:' .. field, -n)
  end
end

local function remove(id, was_idle, k, g, j)
  remove_all({ { id, was_idle, k, g, j } })
end

-- is_leased tells whether a lease that has not run out protects the entry.
local function is_leased(id, now)
  if call('HEXISTS', lease, id) == 0 then
    return false
  end
  return tonumber(call('ZSCORE', due, id) or 0) > now
end

-- evict removes an entry that is not leased, given its fields.
local function evict(id, fields)
  local k, g, n, _, j = small(fields)
  local was_idle
  local rec = call('HGET', lease, id)
  if rec then
    was_idle = parse(rec) == '-'
    call('HDEL', lease, id)
  else
    was_idle = idle(id, n)
  end
  remove(id, was_idle, k, g, j)
end

-- vanished clears what is left of an entry that others removed from the stream. There may
-- be more of them: what is kept beside the stream is mended soon.
local function vanished(id)
  call('HDEL', meta, 'mended')
  local rec = call('HGET', lease, id)
  if rec then
    call('HDEL', lease, id)
    local prior, k, g = parse(rec)
    remove(id, prior == '-', k, g, false)
  else
    remove(id, idle(id, ''), '', '', false)
  end
end

local function fields_of(id)
  local e = call('XRANGE', stream, id, id)
  return e[1] and e[1][2]
end

-- TRIM_READ bounds what one call reads of entries to remove, in bytes.
local TRIM_READ = 1048576

-- drop_kept removes up to n entries that were kept after their delivery, oldest first, leased
-- ones never, and returns how many it removed.
local function drop_kept(n, now)
  local done, read = 0, 0
  for _, id in ipairs(call('ZRANGE', kept, 0, n + 15)) do
    if done < n and read < TRIM_READ and not is_leased(id, now) then
      local fields = fields_of(id)
      if fields then
        read = read + size_of(fields)
        evict(id, fields)
        done = done + 1
      else
        vanished(id)
      end
    end
  end
  return done
end
