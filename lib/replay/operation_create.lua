-- operation_create.lua: stores a bulk operation unless there is one of its id.
-- KEYS[1]  the operation (hash)
-- ARGV[1]  the operation, JSON
-- ARGV[2]  whose dead letters it erases, hashed; '' for no erasure
-- returns  1 when stored, 0 when there is one already
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'doc', ARGV[1], 'status', 'queued')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'recipient', ARGV[2]) end
return 1
