-- delivery.lua: leases every dead letter of a delivery that was not delivered, or none, and
-- notes that the delivery is canceled.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1..3  token, length of the lease in ms, most bytes: not used (lease.lua)
--       4     push key of the delivery's first generation
--       5     for how long to note that it is canceled, in ms; 0: not at all
--       6     most items
-- Returns {0, {row...}, {flag...}} (lease.lua); or, having changed nothing, {-1, id, {}}: another
-- leases this one, or {-2, '', {}}: there are more.

local first, note, most = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])

if not repeated() then
  local all = {}
  for pair in string.gmatch(call('HGET', ids, first) or '', '%S+') do
    all[#all + 1] = id_of(pair)
  end
  for _, member in ipairs(call('ZRANGEBYLEX', generations, '[' .. first .. ' ', '(' .. first .. '!', 'LIMIT', 0, most + 1)) do
    all[#all + 1] = string.match(member, '%S+$')
  end
  if #all > most then
    return { -2, '', {} }
  end
  local found = {}
  for _, id in ipairs(all) do
    -- What others removed is gone, whatever leads to it.
    local fields = not call('ZSCORE', kept, id) and fields_of(id)
    if fields then
      if is_leased(id, now) then
        return { -1, id, {} }
      end
      found[#found + 1] = { id, call('HGET', lease, id), fields }
    end
  end
  quiet = '|quiet'
  for _, f in ipairs(found) do
    lend(unpack(f))
  end
  grant_all()
end
if note > 0 then
  call('ZADD', canceled, math.max(now + note, tonumber(call('ZSCORE', canceled, first) or 0)), first)
end
return answer(0)
