-- superseded.lua: notes that an entry is superseded by a dead letter in another queue, or is about to be.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     native id
--       2     token of the entry's lease; '': of whoever is about to send what supersedes it
--       3     the public id of what supersedes it; or its sink, before it is pushed: then the lease stays
--       4     its identity: push key, colon, fingerprint of its content
-- Returns {1, '', ''}: noted, now or before, or the entry is gone; or {0, id, identity}: another supersedes it, by
-- this public id; or {0, '', ''}: the token does not hold the lease, another leases it, it was delivered, or another is about to
-- supersede it.

local id, token, by, as = unpack(ARGV)
local is_id = string.find(by, '~', 1, true)
local fields = fields_of(id)
if not fields then
  return { is_id and 1 or 0, '', '' }
end
local text = call('HGET', state, id)
local s = decoded(text)
local rec = call('HGET', lease, id)
local _, _, _, holder = parse(rec or '|||')
local mine = rec and holder == token
local now = now_ms()
local leased = is_leased(id, now)
if heir(s) then
  return { s.superseded_by == by and 1 or 0, s.superseded_by, s.superseded_as or '' }
end
free_first()
local function content(identity)
  return string.match(identity or '', '[^:]*$')
end
if is_id and s.superseded_by then
  if s.superseded_by ~= string.match(by, '^[^~]*') or content(s.superseded_as) ~= content(as) then
    return { 0, '', '' }
  end
elseif not mine and (leased or not is_id) or s.delivered_at then
  return { 0, '', '' }
end
if rec and not mine and not leased then
  s = decoded(outlived(id, rec, now))
end
step_down(id, s, rec, by, as, not is_id or leased and not mine)
return { 1, '', '' }
