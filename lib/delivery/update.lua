-- Sets the status of a finished delivery and keeps the rest, its time to live too.
-- KEYS[1]  the record
-- ARGV[1]  status
-- ARGV[2]  the time, RFC 3339
-- returns  1 when set, 0 when nothing finished is known
local found = redis.call('GET', KEYS[1])
if not found then return 0 end
local r = cjson.decode(found)
if r.status == 'in_progress' then return 0 end
r.status = ARGV[1]
r.updated_at = ARGV[2]
redis.call('SET', KEYS[1], cjson.encode(r), 'KEEPTTL')
return 1
