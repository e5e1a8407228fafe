-- overdue.lua: leases the items whose time is over and that are not marked as expired yet,
-- earliest expiry first, due or not, of a paused sink too.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1..3  token, length of the lease in ms, most bytes (lease.lua)
--       4     most items
--       5     most entries to look at: others may lease them
-- Returns {more, {row...}, {flag...}} (lease.lua), as claim.lua does.

if repeated() then
  return answer(0)
end
quiet = '|quiet'

local limit, max_looks = tonumber(ARGV[4]), tonumber(ARGV[5])
local looked, gone, full = 0, {}, false
while not full and looked < max_looks do
  local chunk = call('ZRANGEBYSCORE', expires, '-inf', now, 'LIMIT', looked, 100)
  if #chunk == 0 then
    break
  end
  looked = looked + #chunk
  local leases, ends_at = call('HMGET', lease, unpack(chunk)), call('ZMSCORE', due, unpack(chunk))
  for i, id in ipairs(chunk) do
    full = #rows >= limit or #gone >= limit or bytes >= max_bytes and #rows > 0
    if full then
      break
    end
    if not leases[i] or tonumber(ends_at[i] or 0) <= now then
      local fields = fields_of(id)
      if fields then
        lend(id, leases[i], fields)
      else
        gone[#gone + 1] = id
      end
    end
  end
end
for _, id in ipairs(gone) do
  vanished(id)
end
grant_all()
return answer(full and 1 or 0)
