-- unjournaled.lua: reads dead letters that the journal lacks, or whose state it lacks, and forgets
-- those that are gone or delivered.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     most bytes
--       2..   members of unjournaled
-- Returns {how many it looked at, {member, state or '', fields}...}.

local max_bytes = tonumber(ARGV[1])
local gone, bytes, out = {}, 0, { 0 }
for i = 2, #ARGV do
  if bytes >= max_bytes then
    break
  end
  out[1] = i - 1
  local member = ARGV[i]
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
return out
