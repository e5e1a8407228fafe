-- present_after.lua: what waits, oldest first, without bodies. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     native id after which it begins
--       2, 3  most entries and bytes of them to look at
-- Returns {native id to go on after, or '' at the end; id, push key, content's fingerprint, address, ...}.

local from, limit, budget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local out, seen, bytes, chunk = { '' }, 0, 0, math.min(limit, 8)
while true do
  local entries = call('XRANGE', stream, '(' .. from, '+', 'COUNT', chunk)
  local all = {}
  for i, e in ipairs(entries) do
    all[i] = e[1]
  end
  local delivered = #all > 0 and call('ZMSCORE', kept, unpack(all))
  for i, e in ipairs(entries) do
    bytes = bytes + size_of(e[2])
    if not delivered[i] then
      local k, _, _, _, j = small(e[2])
      local f = ''
      for at = 1, #e[2], 2 do
        if e[2][at] == 'f' then
          f = e[2][at + 1]
        end
      end
      local n = #out
      out[n + 1], out[n + 2], out[n + 3], out[n + 4] = e[1], k, f, j
    end
  end
  if #entries < chunk then
    return out
  end
  from, seen = all[#all], seen + #all
  if seen >= limit or bytes >= budget then
    out[1] = from
    return out
  end
  chunk = math.max(1, math.floor(math.min(64, limit - seen, (budget - bytes) * seen / (bytes + 1))))
end
