-- Records the fate of a delivery, unless somebody else owns it by now.
-- KEYS[1]  the record
-- ARGV[1]  owner token
-- ARGV[2]  the record as JSON; '' forgets the delivery instead
-- ARGV[3]  how long the record is kept in ms
-- returns  1 when recorded, 0 when somebody else owns the record
local found = redis.call('GET', KEYS[1])
if found and cjson.decode(found).token ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  if found and cjson.decode(found).status == 'in_progress' then redis.call('DEL', KEYS[1]) end
  return 1
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
