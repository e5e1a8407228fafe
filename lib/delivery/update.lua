-- Tells a record what became of its delivery's dead letter, and makes one where there is none.
-- KEYS[1]  the record
-- ARGV[1]  the new record as JSON, without an answer
-- ARGV[2]  how long it is kept in ms
-- returns  the status afterwards; '' when the record is of other content
local found = redis.call('GET', KEYS[1])
local new = cjson.decode(ARGV[1])
if found then
  local r = cjson.decode(found)
  if r.fingerprint ~= new.fingerprint then return '' end
  if r.status == 'delivered' and new.status ~= 'delivered' then return r.status end
  if r.status == 'in_progress' and new.status ~= 'delivered' then
    local t = redis.call('TIME')
    if r.until_ms > t[1] * 1000 + math.floor(t[2] / 1000) then return r.status end
  end
  new.answer = r.answer
  new.token = r.token
  if (new.item_id or '') == '' then new.item_id = r.item_id end
end
redis.call('SET', KEYS[1], cjson.encode(new), 'PX', ARGV[2])
return new.status
