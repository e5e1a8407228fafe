-- operation_resume.lua: makes a stopped bulk operation queued again, for its next round.
-- KEYS[1]  the operation (hash)
-- ARGV[1]  token of this call, so that it can be repeated
-- ARGV[2]  the progress that the round begins with: a JSON object of fields and their values
-- returns  'resumed', 'missing', or the status of one that is not stopped
local f = redis.call('HMGET', KEYS[1], 'status', 'resumed', 'round')
if not f[1] then return 'missing' end
if f[2] == ARGV[1] then return 'resumed' end
if f[1] ~= 'stopped' then return f[1] end
for field, value in pairs(cjson.decode(ARGV[2])) do
  redis.call('HSET', KEYS[1], field, value)
end
redis.call('HDEL', KEYS[1], 'owner', 'until', 'error', 'finished', 'stalled')
redis.call('HSET', KEYS[1], 'status', 'queued', 'round', (tonumber(f[3]) or 1) + 1, 'resumed', ARGV[1])
return 'resumed'
