-- settle.lua: records what became of leased items.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16..  claims and bulk operations
-- ARGV  1     most entries that are kept after their delivery, 0: no bound
--       then for each settlement: native id, token, action, delay (ms), charge ('1'), error,
--       attempts without an answer, number of the claim's key, number of the operation's key (0: none), '1' to strike the
--       item from the claim, as if it had never been part of it
-- Returns for each settlement 1 (applied, now or before) or 0 (fenced: the token does not
-- hold the lease), and then how many kept entries were removed.

local max_kept = tonumber(ARGV[1])
local FIRST, WIDTH = 2, 10 -- of the settlements in ARGV

local COUNTERS = {
  discard = 'delivered', keep = 'delivered', drop = 'discarded',
  retry = 'failed', park = 'failed', hold = 'failed', expire = 'expired',
}

local now = now_ms()

-- told_by returns an entry's address, given what its lease tells: one that an older version
-- granted tells none.
local function told_by(id, j)
  look()
  if j == '' and journaled then
    local fields = fields_of(id)
    local _
    _, _, _, _, j = small(fields or {})
  end
  return j
end

local over, changed = {}, {} -- addresses that are over, and ids whose parked or held changed

local function change(id, was_idle, k, j, action, delay, charge, err, unanswered)
  local text = call('HGET', state, id)
  local s = decoded(text)
  if action == 'expire' then
    charge, err = false, ''
  end
  if unanswered > 0 then
    s.unanswered = (s.unanswered or 0) + unanswered
  end
  if charge then
    s.replays = (s.replays or 0) + 1
  end
  if charge or err ~= '' or action == 'keep' then
    local h = s.history or {}
    local r = { at = now }
    if err ~= '' then
      r.error = err
    end
    h[#h + 1] = r
    while #h > MAX_HISTORY do
      table.remove(h, 1)
    end
    s.history = h
  end
  local parked, held = s.parked, s.held
  if s.parked then
    s.parked = nil
    count('parked', -1, id)
  end
  s.held, s.deaths, s.begun = nil, nil, nil
  local is_idle = true
  if action == 'keep' then
    s.delivered_at = now
    if s.expired then
      s.expired = nil
      count('expired', -1, id)
    end
    call('ZADD', kept, ms_of(id), id)
    call('ZREM', expires, id)
    -- A new failure of this delivery is a new dead letter.
    if k ~= '' then
      strike({ [k] = { [id] = true } })
    end
    over[#over + 1] = address_of(id, told_by(id, j))
  elseif s.delivered_at or s.expired then
    is_idle = true
  elseif action == 'expire' then
    s.expired = now
    count('expired', 1, id)
    call('ZREM', expires, id)
  elseif s.superseded_by then
    s.held = true -- whatever came of a forced replay
  elseif action == 'retry' then
    is_idle = false
  elseif action == 'park' then
    s.parked = true
    count('parked', 1, id)
  else
    s.held = true
  end
  if (s.parked ~= parked or s.held ~= held) and not s.delivered_at and address_of(id, j) then
    changed[#changed + 1] = 's:' .. id
  end
  if is_idle then
    call('ZREM', due, id)
  else
    -- Later than the push, which tells it from a fresh entry.
    call('ZADD', due, math.max(now + delay, ms_of(id) + 1), id)
  end
  if is_idle ~= was_idle then
    count('idle', is_idle and 1 or -1, id)
  end
  if next(s) then
    call('HSET', state, id, cjson.encode(s))
  else
    call('HDEL', state, id)
  end
end

-- What each settlement finds is read for all at once.
local asked = {}
for i = FIRST, #ARGV, WIDTH do
  asked[#asked + 1] = ARGV[i]
end
local records = {}
for i, rec in ipairs(call('HMGET', lease, unpack(asked))) do
  records[asked[i]] = rec
end

local out, applied, removed = {}, {}, {}
local leases, struck, settled = {}, {}, {} -- what to write: ids, and by claim ids and pairs
local counts = {} -- by operation: counter -> number
local changes = {}

local function append(lists, key, ...)
  local list = lists[key] or {}
  lists[key] = list
  for _, v in ipairs({ ... }) do
    list[#list + 1] = v
  end
end

for i = FIRST, #ARGV, WIDTH do
  local id, token, action, delay, charge, err, unanswered, claim, op, unlist = unpack(ARGV, i, i + WIDTH - 1)
  claim, op = KEYS[tonumber(claim)], KEYS[tonumber(op)]
  local rec = records[id]
  local prior, k, g, holder, quiet, j
  if rec then
    prior, k, g, holder, quiet, j = parse(rec)
  end
  if rec and holder == token then
    records[id] = nil
    leases[#leases + 1] = id
    if action == 'discard' or action == 'drop' then
      removed[#removed + 1] = { id, prior == '-', k, g, told_by(id, j) }
    else
      changes[#changes + 1] = { id, prior == '-', k, j, action, tonumber(delay), charge == '1', err, tonumber(unanswered) }
    end
    if unlist == '1' then
      append(struck, claim, id)
    else
      append(settled, claim, id, 's')
      applied[claim .. id] = true
    end
    if op then
      local c = counts[op] or {}
      counts[op] = c
      c.settled = (c.settled or 0) + 1
      c[COUNTERS[action]] = (c[COUNTERS[action]] or 0) + 1
    end
    out[#out + 1] = 1
  elseif applied[claim .. id] or call('HGET', claim, id) == 's' then
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
if #leases == 0 then
  out[#out + 1] = 0
  return out
end

call('HDEL', lease, unpack(leases)) -- frees memory, see free_first
remove_all(removed)
for _, c in ipairs(changes) do
  change(unpack(c))
end
if #over > 0 then
  call('SADD', ended, unpack(over))
end
if #changed > 0 then
  call('SADD', unjournaled, unpack(changed))
end
local dropped = 0
local over = max_kept > 0 and call('ZCARD', kept) - max_kept or 0
if over > 0 then
  dropped = drop_kept(math.min(over, #leases + 10), now)
end
if dropped > 0 then
  call('HINCRBY', meta, 'trimmed', dropped)
end
for claim, list in pairs(struck) do
  call('HDEL', claim, unpack(list))
end
for claim, pairs_of in pairs(settled) do
  call('HSET', claim, unpack(pairs_of))
  call('PEXPIRE', claim, KEEP_CLAIM)
end
for op, c in pairs(counts) do
  for counter, n in pairs(c) do
    call('HINCRBY', op, counter, n)
  end
end
out[#out + 1] = dropped
return out
