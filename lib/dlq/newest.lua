-- newest.lua: the newest entry of a range, for merging many queues. Reads only. It stands
-- alone: a page of a thousand queues runs it a thousand times.
--
-- KEYS  1     the stream
-- ARGV  1, 2  newest and oldest native id, both included
--       3     an entry whose first field is larger comes without its fields
-- Returns {}, {id} or {id, fields}.

local e = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', 1)[1]
if not e then
  return {}
end
local fields = e[2]
if #fields[2] > tonumber(ARGV[3]) then
  return { e[1] }
end
return e
