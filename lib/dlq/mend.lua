-- mend.lua: goes a step on a pass over a queue that puts in order what others, who removed
-- entries or keys, left behind: it forgets what is kept of entries that are gone, and
-- counts anew.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1, 2  most entries and bytes of them that one step looks at
--       3     '1': there is a journal
--       4     after what time that nobody worked on it, in ms, one is used no more
-- Returns 1 while the pass is not at its end, else 0.
--
-- meta's field mend says where the pass is: "<companion> <cursor of its scan> <members of
-- that answer that are done>", and "stream" at last. The stream is counted from its oldest
-- entry on, into fields of meta that begin with recount: (entry.lua keeps them true); the
-- field recount is the last entry counted. At the end they become the counters. Where there is a
-- journal, what it lacks of the entries after journal_to is noted on the way.

free_first()
local looks, read = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()

-- past returns whether a field of the history is out of its time.
local function past(field)
  local kind, n = string.match(field, '^(%a)(%d+):')
  for _, r in ipairs(RESOLUTIONS) do
    if r[1] == kind then
      return (tonumber(n) + 1) * r[2] <= now - r[3]
    end
  end
  return true
end

-- put_history makes the history say how many entries are still there, given the new numbers by
-- field, which it takes.
local function put_history(fresh)
  local MAX_FIELDS = 8192
  local old, len = call('HGETALL', history), 0
  for i = 1, #old, 2 do
    local field, v = old[i], tonumber(old[i + 1])
    if past(field) then
      call('HDEL', history, field)
    else
      local want = math.max(fresh[field] or 0, 0)
      if v % PRESENT ~= want then
        call('HSET', history, field, math.max(math.floor(v / PRESENT), want) * PRESENT + want)
      end
      len = len + 1
    end
    fresh[field] = nil
  end
  for field, n in pairs(fresh) do
    if n > 0 and not past(field) then
      if len >= MAX_FIELDS then
        field = string.match(field, '^[^:]*:')
      end
      len = len + 1
      call('HINCRBY', history, field, n * (PRESENT + 1))
    end
  end
end

-- noted_at is when a note was made; 0 where there is none, or none that can be read.
local function noted_at(text)
  return tonumber(decoded(text).at_ms) or 0
end

-- forget_causes forgets those of which nothing has come for KEEP, and nothing was noted.
local function forget_causes()
  local KEEP = 2592000000
  local all, known = call('HGETALL', causes), {}
  for i = 1, #all, 2 do
    known[all[i]] = all[i + 1]
  end
  for field, v in pairs(known) do
    local g = string.match(field, '^l:(.*)')
    if g and (ms_of(v) or 0) < now - KEEP and call('HEXISTS', groups, 'n:' .. g) == 0 and noted_at(known['note:' .. g]) < now - KEEP then
      call('HDEL', causes, 'f:' .. g, 'l:' .. g, 't:' .. g, 'note:' .. g)
    end
  end
end

local oldest = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if not oldest then
  start_anew()
  put_history({}) -- forgets what is old
  forget_causes()
  return 0
end
oldest = oldest[1]

local function is_gone(id)
  looks = looks - 0.1
  if not string.find(id, '^%d+-%d+$') or is_after(oldest, id) then
    return true
  end
  local fields = fields_of(id)
  looks = looks - 0.9
  if fields then
    read = read - size_of(fields)
  end
  return not fields
end

-- forget removes what is kept of an entry that is gone; counting comes later.
local function forget(id)
  call('HDEL', lease, id)
  call('HDEL', state, id)
  call('ZREM', due, id)
  call('ZREM', kept, id)
  call('ZREM', expires, id)
end

local companion = {
  due = { 'ZSCAN', due, next = 'state' },
  state = { 'HSCAN', state, next = 'lease' },
  lease = { 'HSCAN', lease, next = 'kept' },
  kept = { 'ZSCAN', kept, next = 'expires' },
  expires = { 'ZSCAN', expires, next = 'generations' },
  generations = { 'ZSCAN', generations, next = 'ids' },
  ids = { 'HSCAN', ids, next = 'stream' },
}

-- check returns whether a member of a companion is still of use, after its repair.
local function check(name, member, value)
  if name == 'generations' then
    local id = string.match(member, '%S*$')
    if is_gone(id) or call('ZSCORE', kept, id) then
      call('ZREM', generations, member)
      return false
    end
    return true
  end
  if name ~= 'ids' then
    if is_gone(member) then
      forget(member)
      return false
    end
    return true
  end
  local gone = {}
  for pair in string.gmatch(value, '%S+') do
    local id = id_of(pair)
    if is_gone(id) or call('ZSCORE', kept, id) then
      gone[id] = true
    end
  end
  if next(gone) then
    strike({ [member] = gone })
    return call('HEXISTS', ids, member) == 1
  end
  return true
end

-- scan looks at the members of a companion and returns where it came to: a name, a cursor,
-- and how many members at that cursor are done.
local function scan(name, cursor, done)
  local c = companion[name]
  local answer = call(c[1], c[2], cursor, 'COUNT', 100)
  local members, left = answer[2], 0
  for i = 1, #members, 2 do
    if i > 2 * done then
      if looks <= 0 or read <= 0 then
        return name, cursor, left
      end
      if check(name, members[i], members[i + 1]) then
        left = left + 1
      end
    else
      left = left + 1
    end
  end
  if answer[1] == '0' then
    return c.next, '0', 0
  end
  return name, answer[1], 0
end

-- lacking returns a function that is given every entry, and one that notes what the journal
-- lacks of those that come after journal_to. A pass that was beyond it when the journal came
-- leaves them to the next one.
local function lacking(from)
  local to = call('HGET', meta, 'journal_to')
  if not to and ARGV[3] ~= '1' or is_after(from, to or '0-0') then
    return function() end, function() end
  end
  to = to or '0-0'
  local new = {}
  local function see(id, j, delivered)
    if j == '' and not delivered and is_after(id, to) then
      new[#new + 1] = id
    end
  end
  return see, function(last, at_end)
    if #new > 0 then
      call('SADD', unjournaled, unpack(new))
    end
    if at_end or is_after(last, to) then
      call('HSET', meta, 'journal_to', last)
    end
  end
end

-- recount counts the next entries of the stream and reports whether that was its end.
local function recount()
  local from = call('HGET', meta, 'recount') or '0-0'
  local chunk = 8
  local idles, parked, expired, by_group, seen, bytes, budget = 0, 0, 0, {}, 0, 0, read
  local by_time, first, last = {}, {}, {}
  local at_end = false
  local see, note = lacking(from)
  while not at_end and looks > 0 and read > 0 do
    local entries = call('XRANGE', stream, '(' .. from, '+', 'COUNT', chunk)
    at_end = #entries < chunk
    local all = {}
    for i, e in ipairs(entries) do
      all[i] = e[1]
    end
    if #all > 0 then
      local states, leases = call('HMGET', state, unpack(all)), call('HMGET', lease, unpack(all))
      local scores, over_at = call('ZMSCORE', due, unpack(all)), call('ZMSCORE', expires, unpack(all))
      local cursor = call('HGET', meta, 'cursor') or '0-0'
      for i, e in ipairs(entries) do
        local id, k, g, n, x, j = e[1], small(e[2])
        bytes = bytes + size_of(e[2])
        local s = decoded(states[i])
        local waits = s.parked or s.held or s.delivered_at or s.expired
        if leases[i] and not scores[i] or not leases[i] and not scores[i] and not waits and n ~= 'never'
          and (states[i] or n ~= '0' and n ~= '' or not is_after(id, cursor)) then
          -- The due set lost it.
          scores[i] = math.max(tonumber(n) or 0, ms_of(id) + 1)
          call('ZADD', due, scores[i], id)
        end
        see(id, j, s.delivered_at)
        if not s.delivered_at then
          -- The same of what leads to it by its expiry, and by its delivery.
          if x ~= '' and not s.expired and not over_at[i] then
            call('ZADD', expires, x, id)
          end
          if k ~= first_of(k) then
            call('ZADD', generations, 0, first_of(k) .. ' ' .. id)
          end
        end
        if leases[i] then
          idles = idles + (parse(leases[i]) == '-' and 1 or 0)
        elseif is_idle(scores[i], n, states[i]) then
          idles = idles + 1
        end
        parked = parked + (s.parked and 1 or 0)
        expired = expired + (s.expired and 1 or 0)
        if g ~= '' then
          by_group[g] = (by_group[g] or 0) + 1
          first[g], last[g] = first[g] or ms_of(id), id
        end
        for _, at in ipairs(times_of(id, now)) do
          by_time[at .. g] = (by_time[at .. g] or 0) + 1
        end
      end
      from = all[#all]
      seen = seen + #all
      looks = looks - #all
      read = budget - bytes
      chunk = math.max(1, math.floor(math.min(64, looks, read * seen / (bytes + 1))))
    end
  end
  note(from, at_end)
  call('HSET', meta, 'recount', from)
  call('HINCRBY', meta, 'recount:idle', idles)
  call('HINCRBY', meta, 'recount:parked', parked)
  call('HINCRBY', meta, 'recount:expired', expired)
  for g, n in pairs(by_group) do
    call('HINCRBY', meta, 'recount:n:' .. g, n)
    call('HSETNX', meta, 'recount:f:' .. g, first[g])
    call('HSET', meta, 'recount:l:' .. g, last[g])
  end
  for field, n in pairs(by_time) do
    call('HINCRBY', meta, 'recount:' .. field, n)
  end
  return at_end
end

-- abandon forgets what is kept for a journal that is used no more: nobody would carry the ends out.
local function abandon()
  local m = call('HMGET', meta, 'journal_to', 'journal_seen')
  if m[1] and m[2] and now - tonumber(m[2]) > tonumber(ARGV[4]) then
    call('HDEL', meta, 'journal_to', 'journal_seen', 'journal')
    call('UNLINK', ended, unjournaled)
  end
end

-- adopt makes the new numbers the counters. A group whose text is lost is counted with
-- those that have no group.
local function adopt()
  local fresh, over, in_time = {}, {}, {}
  local fields = call('HGETALL', meta)
  for i = 1, #fields, 2 do
    local name = string.match(fields[i], '^recount:(.*)')
    if name and string.find(name, '^[mhd]%d+:') then
      in_time[name] = tonumber(fields[i + 1])
    elseif name then
      fresh[name] = tonumber(fields[i + 1]) or fields[i + 1]
    end
    if string.find(fields[i], '^recount') then
      over[#over + 1] = fields[i]
    end
  end
  call('HSET', meta, 'idle', fresh.idle or 0, 'parked', fresh.parked or 0, 'expired', fresh.expired or 0, 'mended', now)
  for i = 1, #over, 1000 do
    call('HDEL', meta, unpack(over, i, math.min(i + 999, #over)))
  end
  call('HDEL', meta, 'mend')
  local old = call('HGETALL', groups)
  local known = {}
  for i = 1, #old, 2 do
    known[old[i]] = old[i + 1]
  end
  for f, v in pairs(known) do
    local kind, g = string.sub(f, 1, 2), string.sub(f, 3)
    local n = fresh['n:' .. g] or 0
    if n <= 0 or not known['t:' .. g] then
      call('HDEL', groups, f)
    elseif kind == 't:' and known['n:' .. g] ~= tostring(n) then
      call('HSET', groups, 'n:' .. g, n)
    end
    if kind == 't:' and n > 0 and call('HSETNX', causes, 'f:' .. g, fresh['f:' .. g]) == 1 then
      -- An older version counted it.
      call('HSET', causes, 't:' .. g, v)
      call('HSETNX', causes, 'l:' .. g, fresh['l:' .. g])
    end
  end
  put_history(in_time)
  forget_causes()
end

local name, cursor, done = string.match(call('HGET', meta, 'mend') or 'due 0 0', '^(%S+) (%S+) (%d+)$')
done = tonumber(done)
call('HSET', meta, 'mend_at', now)
while name ~= 'stream' and looks > 0 and read > 0 do
  name, cursor, done = scan(name, cursor, done)
end
if name == 'stream' and looks > 0 and read > 0 and recount() then
  adopt()
  if ARGV[3] ~= '1' then
    abandon()
  end
  return 0
end
call('HSET', meta, 'mend', name .. ' ' .. cursor .. ' ' .. done)
return 1
