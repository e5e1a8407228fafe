-- Takes a delivery for an owner, or tells what is known of it.
-- KEYS[1]  the record (string, JSON, TTL)
-- ARGV[1]  owner token
-- ARGV[2]  fingerprint of the content
-- ARGV[3]  lease in ms
-- ARGV[4]  how long the record is kept in ms
-- ARGV[5]  the new record as JSON, without until
-- ARGV[6]  '1': the record of the dead letter ARGV[7] is known to be untrue
-- ARGV[7]  that dead letter's id, or ''
-- returns  {state, record}; record is the one found, '' when there was none
local found = redis.call('GET', KEYS[1])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = 'started'
if found then
  local r = cjson.decode(found)
  local same = r.fingerprint == ARGV[2]
  -- A fingerprint of another length is an older version's: it tells nothing of the content.
  local comparable = #(r.fingerprint or '') == #ARGV[2]
  if comparable and not same then return {'reused', found} end
  if r.status == 'in_progress' then
    if r.token ~= ARGV[1] then
      if r.until_ms > now then return {'in_progress', found} end
      state = 'taken_over'
    elseif r.taken_over then
      state = 'taken_over' -- the reply that said so may have been lost
    end
  elseif same and not (ARGV[6] == '1' and r.status == 'dead_lettered' and (r.item_id or '') == ARGV[7]) then
    return {'finished', found}
  end
end
local r = cjson.decode(ARGV[5])
r.token = ARGV[1]
r.until_ms = now + tonumber(ARGV[3])
r.taken_over = state == 'taken_over' or nil
redis.call('SET', KEYS[1], cjson.encode(r), 'PX', ARGV[4])
return {state, found or ''}
