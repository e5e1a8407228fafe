-- unjournaled.lua: dead letters that the journal lacks, or whose state it lacks: any of them, so that
-- none that cannot be written keeps the others away. Forgets those that are gone or delivered.
--
-- KEYS  1..13 the queue (prelude.lua)
-- ARGV  1, 2  most of them, and most bytes
-- Returns {forgotten, {member, state or '', fields}...}.

local max_bytes = tonumber(ARGV[2])
local gone, bytes, out = {}, 0, { 0 }
for _, member in ipairs(call('SRANDMEMBER', unjournaled, ARGV[1])) do
  if bytes >= max_bytes then
    break
  end
  local id = string.match(member, '^s?:?(%d+%-%d+)$')
  local fields = id and not call('ZSCORE', kept, id) and fields_of(id)
  if fields then
    bytes = bytes + size_of(fields)
    out[#out + 1] = { member, call('HGET', state, id) or '', fields }
  else
    gone[#gone + 1] = member
  end
end
if #gone > 0 then
  call('SREM', unjournaled, unpack(gone))
end
out[1] = #gone
return out
