-- operation_cancel.lua: cancels a bulk operation unless it is final.
-- KEYS[1]  the operation (hash)
-- ARGV[1]  how long it is kept once it is final, in ms
-- returns  its status after that, or 'missing'
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if status == 'queued' or status == 'running' or status == 'stopped' then
  local t = redis.call('TIME')
  status = 'canceled'
  redis.call('HSET', KEYS[1], 'status', status, 'finished', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
  redis.call('HDEL', KEYS[1], 'recipient')
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return status
