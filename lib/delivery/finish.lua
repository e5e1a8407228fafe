-- Records the fate of a delivery, unless that would be a step back (delivery.go).
-- KEYS[1]  the record
-- ARGV[1]  owner token
-- ARGV[2]  the record as JSON; '' forgets a delivery in progress instead
-- ARGV[3]  how long the record is kept in ms
-- returns  {'1' when recorded, else '0', the record that was found or ''}
local found = redis.call('GET', KEYS[1])
local old = found and cjson.decode(found)
if ARGV[2] == '' then
  if old and old.token == ARGV[1] and old.status == 'in_progress' then redis.call('DEL', KEYS[1]) end
  return {'1', found or ''}
end
local record = ARGV[2]
if old then
  local new = cjson.decode(ARGV[2])
  local gone_on = old.status == 'delivered' or old.status == 'discarded'
  if new.status == 'delivered' then
    -- True whoever owns the record, if it is of this content.
    if old.token ~= ARGV[1] and old.fingerprint ~= new.fingerprint then return {'0', found} end
    if old.item_id and not new.item_id then
      -- Another's dead letter is named until it is removed: this call may be made again.
      new.item_id = old.item_id
      record = cjson.encode(new)
    end
  elseif old.token ~= ARGV[1] or (gone_on and old.status ~= new.status) then
    return {'0', found}
  end
end
redis.call('SET', KEYS[1], record, 'PX', ARGV[3])
return {'1', found or ''}
