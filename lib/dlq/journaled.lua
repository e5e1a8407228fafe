-- journaled.lua: notes what the journal has by now.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     token of who works on it
--       2, 3  how many addresses and native ids follow
--       then addresses whose objects are gone; native ids of entries that were written; and for each
--       whose state was: native id, that state ('p', 'h', 'ph' or '': parked, held; then superseded_by)
-- Returns 1, or 0 when the token does not hold the lease: nothing was changed.

if not works(ARGV[1]) then
  return 0
end
local addresses, written = tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 4
if addresses > 0 then
  call('SREM', ended, unpack(ARGV, at, at + addresses - 1))
  at = at + addresses
end
if written > 0 then
  call('SREM', unjournaled, unpack(ARGV, at, at + written - 1))
  at = at + written
end
for i = at, #ARGV, 2 do
  local id, was = ARGV[i], ARGV[i + 1]
  local s = decoded(call('HGET', state, id))
  if (s.parked and 'p' or '') .. (s.held and 'h' or '') .. (s.superseded_by or '') == was then
    call('SREM', unjournaled, 's:' .. id)
  end
end
return 1
