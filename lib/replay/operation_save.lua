-- operation_save.lua: records an owner's progress in a bulk operation.
-- KEYS[1]  the operation (hash)
-- ARGV[1]  how long it is kept once it is final, in ms
-- ARGV[2]  owner
-- ARGV[3]  the owner's further time in ms, 0 to end it
-- ARGV[4]  field of the progress in one sink, '' for none
-- ARGV[5]  its value
-- ARGV[6]  '1' when it got on
-- ARGV[7]  the final status or 'stopped', '' when it goes on
-- ARGV[8]  error
-- returns  the status, 'missing', or 'lost' when somebody else is the owner
local f = redis.call('HMGET', KEYS[1], 'status', 'owner')
if not f[1] then return 'missing' end
if f[2] ~= ARGV[2] then return 'lost' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[3]))
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], ARGV[4], ARGV[5]) end
if ARGV[6] == '1' then redis.call('HDEL', KEYS[1], 'stalled') end
if ARGV[7] ~= '' and (f[1] == 'queued' or f[1] == 'running') then
  f[1] = ARGV[7]
  redis.call('HSET', KEYS[1], 'status', ARGV[7], 'error', ARGV[8], 'finished', string.format('%.0f', now))
  if ARGV[7] ~= 'stopped' then -- that one waits for an operator
    redis.call('HDEL', KEYS[1], 'recipient')
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
  end
end
return f[1]
