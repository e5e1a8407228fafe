-- retire.lua: removes entries for their age that are not due by themselves.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     those pushed before this time (Unix ms)
--       2, 3  most entries and bytes of them to look at
-- Returns {removed, looked at, 1 when there are others to look at, else 0}.
--
-- meta's field retire_at is where the next call goes on: entries that stay, due ones, must not keep
-- others away. At the end it begins anew.

free_first()
local before, limit, budget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now, from = now_ms(), call('HGET', meta, 'retire_at') or '0-0'
local all, leases, seen, bytes, chunk, more = {}, {}, 0, 0, math.min(limit, 8), true
while more and seen < limit and bytes < budget do
  local entries = call('XRANGE', stream, '(' .. from, before - 1, 'COUNT', chunk)
  more = #entries == chunk
  local chunk_ids = {}
  for i, e in ipairs(entries) do
    chunk_ids[i] = e[1]
  end
  if #chunk_ids > 0 then
    local scores, states, records = call('ZMSCORE', due, unpack(chunk_ids)), call('HMGET', state, unpack(chunk_ids)), call('HMGET', lease, unpack(chunk_ids))
    for i, e in ipairs(entries) do
      local id, k, g, n, x, j = e[1], small(e[2])
      bytes = bytes + size_of(e[2])
      local rec, over = records[i], x ~= '' and tonumber(x) <= now
      local was_idle
      if rec then
        was_idle = parse(rec) == '-'
      else
        was_idle = is_idle(scores[i], n, states[i])
      end
      if (was_idle or over) and not (rec and tonumber(scores[i] or 0) > now) then
        all[#all + 1] = { id, was_idle, k, g, j }
        if rec then
          leases[#leases + 1] = id
        end
      end
    end
    from, seen = chunk_ids[#chunk_ids], seen + #chunk_ids
    chunk = math.max(1, math.floor(math.min(64, limit - seen, (budget - bytes) * seen / (bytes + 1))))
  end
end
if #leases > 0 then
  call('HDEL', lease, unpack(leases))
end
remove_all(all)
if #all > 0 then
  call('HINCRBY', meta, 'retired', #all)
end
if more then
  call('HSET', meta, 'retire_at', from)
else
  call('HDEL', meta, 'retire_at')
end
return { #all, seen, more and 1 or 0 }
