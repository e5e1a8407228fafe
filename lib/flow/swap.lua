-- swap.lua: replaces the state of a receiver if it still is what the caller believes. A script
-- that is repeated after a lost reply finds its own text, and says that it is there.
--
-- KEYS  1  flow: receiver -> state
-- ARGV  1  receiver
--       2  what the caller believes; empty: none
--       3  what is to be; empty: none
--       4  the time by which it was made (Unix ms)
--       5  how far off that time may be (ms)
--       6  how many receivers have a state of their own
--       7  the receiver that the others share
-- Returns what happened (0 nothing, 1 it is what it was to be, 2 no room: the state is that of
-- the shared receiver), the time (Unix ms), and the state as it is now.

local receiver, old, new, shared = ARGV[1], ARGV[2], ARGV[3], ARGV[7]
-- A full Redis takes what comes after a write that frees memory.
redis.call('HDEL', KEYS[1], '')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local current = redis.call('HGET', KEYS[1], receiver) or ''
if current == '' and new ~= '' and receiver ~= shared and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  return { 2, now, redis.call('HGET', KEYS[1], shared) or '' }
end
if current == new then
  return { 1, now, current }
end
if current ~= old or math.abs(now - tonumber(ARGV[4])) > tonumber(ARGV[5]) then
  return { 0, now, current }
end
if new == '' then
  redis.call('HDEL', KEYS[1], receiver)
else
  redis.call('HSET', KEYS[1], receiver, new)
end
-- Nobody asks for a receiver's state after a week without a change.
redis.call('PEXPIRE', KEYS[1], 7 * 24 * 3600 * 1000)
return { 1, now, new }
