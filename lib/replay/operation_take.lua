-- operation_take.lua: makes an owner the one who works on a bulk operation.
-- KEYS[1]  the operation (hash)
-- ARGV[1]  owner
-- ARGV[2]  the owner's time in ms
-- returns  'taken', 'busy' (another owner's time is not over), 'stopped', 'final', 'missing'
local f = redis.call('HMGET', KEYS[1], 'status', 'owner', 'until', 'started')
if not f[1] then return 'missing' end
if f[1] == 'stopped' then return 'stopped' end
if f[1] ~= 'queued' and f[1] ~= 'running' then return 'final' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if f[2] and f[2] ~= ARGV[1] and tonumber(f[3]) > now then return 'busy' end
if f[2] ~= ARGV[1] then redis.call('HINCRBY', KEYS[1], 'stalled', 1) end
redis.call('HSET', KEYS[1], 'status', 'running', 'owner', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]))
if not f[4] then redis.call('HSET', KEYS[1], 'started', string.format('%.0f', now)) end
redis.call('PERSIST', KEYS[1]) -- earlier versions gave it a TTL from the start
return 'taken'
