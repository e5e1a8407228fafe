-- claim.lua: leases the items that are due, oldest due first.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1..3  token, length of the lease in ms, most bytes (lease.lua)
--       4     most items
--       5     most fresh entries to look at
-- Returns {more, {row...}, {flag...}} (lease.lua); more is 1 when the call stopped by its bounds
-- and a further one may find items. A claim that is repeated with its token returns what
-- it still leases.
--
-- Two sources are merged by due time: the due set (leased, rescheduled, not before), and
-- the entries after the cursor, which are due since their push.

local limit, max_scan = tonumber(ARGV[4]), tonumber(ARGV[5])

if repeated() or call('HGET', meta, 'paused') then
  return answer(0)
end

local more = 0
local start = call('HGET', meta, 'cursor') or '0-0'
local cursor = start
local chunk, at, last, at_end = {}, 1, start, false
local scores, states -- of the chunk's entries
local scanned, scanned_bytes = 0, 0

-- fresh returns the next entry that is due since its push, without passing it.
local function fresh()
  while true do
    if at > #chunk then
      if at_end then
        return nil
      end
      if scanned >= max_scan or scanned_bytes >= max_bytes then
        more = 1
        return nil
      end
      local n = math.min(limit, 4)
      if scanned > 0 then
        n = math.floor((max_bytes - scanned_bytes) * scanned / (scanned_bytes + 1))
        n = math.max(1, math.min(n, 64, max_scan - scanned, math.max(limit - #rows, 4)))
      end
      chunk = call('XRANGE', stream, '(' .. last, '+', 'COUNT', n)
      at, at_end = 1, #chunk < n
      if #chunk == 0 then
        return nil
      end
      scanned = scanned + #chunk
      local chunk_ids = {}
      for i, e in ipairs(chunk) do
        scanned_bytes = scanned_bytes + size_of(e[2])
        chunk_ids[i] = e[1]
      end
      last = chunk_ids[#chunk_ids]
      scores = call('ZMSCORE', due, unpack(chunk_ids))
      states = call('HMGET', state, unpack(chunk_ids))
    end
    local e = chunk[at]
    local k, g, n, _, j = small(e[2])
    if (n == '0' or n == '') and not scores[at] and not is_idle(scores[at], n, states[at]) then
      return e, k, g, j
    end
    cursor = e[1]
    at = at + 1
  end
end

local waiting = call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
local w = 1
while #rows < limit and (bytes < max_bytes or #rows == 0) do
  local e, k, g, j = fresh()
  local id = waiting[w]
  if id and (not e or tonumber(waiting[w + 1]) <= ms_of(e[1])) then
    local prior = waiting[w + 1]
    w = w + 2
    local rec = call('HGET', lease, id)
    local fields, granted = fields_of(id), false
    if rec then
      prior = parse(rec)
    end
    if not fields then
      vanished(id)
    else
      local s = rec and outlived(id, rec, now) or call('HGET', state, id)
      if prior == '-' then
        -- An operator's replay of an item that is not due ran out: it is as it was.
        call('HDEL', lease, id)
        call('ZREM', due, id)
      elseif tonumber(prior) > now then
        -- The same of an item that is due later.
        call('HDEL', lease, id)
        call('ZADD', due, prior, id)
      else
        local wk, wg, _, _, wj = small(fields)
        grant(id, prior, wk, wg, wj, s, fields)
        granted = true
      end
    end
    if not granted and #waiting == 2 * limit then
      more = 1
    end
  elseif e then
    cursor = e[1]
    at = at + 1
    grant(e[1], ms_of(e[1]), k, g, j, false, e[2])
  else
    break
  end
end
if cursor ~= start then
  call('HSET', meta, 'cursor', cursor)
end
grant_all()
return answer(more)
