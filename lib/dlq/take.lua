-- take.lua: leases the items asked for by id, due or not.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1..3  token, length of the lease in ms, most bytes (lease.lua)
--       4     '1': delivered items too
--       5     '1': nothing is sent under the leases
--       6..   native ids
-- Returns {0, {row...}, {flag...}} (lease.lua). Left out: what is missing, leased by others, or
-- beyond the bytes. What this token leases already is returned again.

local force = ARGV[4] == '1'
if ARGV[5] == '1' then
  quiet = '|quiet'
end

local function delivered(id)
  return decoded(call('HGET', state, id)).delivered_at
end

for i = 6, #ARGV do
  local id = ARGV[i]
  if bytes >= max_bytes and #rows > 0 then
    break
  end
  local rec = call('HGET', lease, id)
  local prior, _, _, holder
  if rec then
    prior, _, _, holder = parse(rec)
  end
  local leased = rec and is_leased(id, now)
  if leased and holder == token then
    again(id, prior)
  elseif not leased and (force or not delivered(id)) then
    local fields = fields_of(id)
    if fields then
      lend(id, rec, fields)
    end
  end
end
grant_all()
return answer(0)
