-- release.lua: gives leases back; the items are as they were before the claim.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  for each lease: native id, token
-- Returns the number of leases given back; those no longer held are ignored.

local n = 0
for i = 1, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  local rec = call('HGET', lease, id)
  if rec then
    local prior, _, _, holder = parse(rec)
    if holder == token then
      call('HDEL', lease, id) -- frees memory, see free_first
      if prior == '-' then
        call('ZREM', due, id)
      else
        call('ZADD', due, prior, id)
      end
      n = n + 1
    end
  end
end
return n
