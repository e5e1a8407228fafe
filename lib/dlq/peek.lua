-- peek.lua: when the items are due that claim.lua would lease, or those of overdue.lua, without leasing them: of a sink with
-- several queues. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1     most items
--       2     most bytes to look at
--       3     most entries to look at
--       4     '1': those whose time is over, by when it was
-- Returns {paused, made, cut, ms, ms, ...}, earliest first; made is 1 where the claim was made before, and cut when it stopped by
-- its bounds.

local limit, max_bytes, max_scan = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()
local paused = call('HGET', meta, 'paused') and 1 or 0
local times, cut = {}, 0

if ARGV[4] == '1' then
  local looked = 0
  while #times < limit do
    local chunk = call('ZRANGEBYSCORE', expires, '-inf', now, 'WITHSCORES', 'LIMIT', looked, 100)
    if #chunk == 0 then
      break
    elseif looked >= max_scan then
      cut = 1
      break
    end
    for i = 1, #chunk, 2 do
      looked = looked + 1
      if #times < limit and not is_leased(chunk[i], now) then
        times[#times + 1] = tonumber(chunk[i + 1])
      end
    end
  end
else
  local at = call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 2, #at, 2 do
    times[#times + 1] = tonumber(at[i])
  end
  local last, scanned, bytes, fresh = call('HGET', meta, 'cursor') or '0-0', 0, 0, 0
  while fresh < limit do
    if scanned >= max_scan or bytes >= max_bytes then
      cut = 1
      break
    end
    local n = scanned == 0 and 4 or math.floor((max_bytes - bytes) * scanned / (bytes + 1))
    n = math.max(1, math.min(n, 64, max_scan - scanned, limit - fresh))
    local chunk = call('XRANGE', stream, '(' .. last, '+', 'COUNT', n)
    if #chunk == 0 then
      break
    end
    local chunk_ids = {}
    for i, e in ipairs(chunk) do
      bytes = bytes + size_of(e[2])
      chunk_ids[i] = e[1]
    end
    last, scanned = chunk_ids[#chunk], scanned + #chunk
    local scores, states = call('ZMSCORE', due, unpack(chunk_ids)), call('HMGET', state, unpack(chunk_ids))
    for i, e in ipairs(chunk) do
      local _, _, when = small(e[2])
      if (when == '0' or when == '') and not scores[i] and not is_idle(scores[i], when, states[i]) then
        times[#times + 1] = ms_of(e[1])
        fresh = fresh + 1
      end
    end
  end
  if cut == 1 and #times == 0 then
    times[1] = ms_of(last) -- a claim goes on from there
  end
  table.sort(times)
end
local out = { paused, call('EXISTS', KEYS[16]), cut }
for i = 1, math.min(#times, limit) do
  out[i + 3] = string.format('%.0f', times[i])
end
return out
