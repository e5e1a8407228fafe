-- newest.lua: the newest entry of a range, for merging many queues. Reads only. It stands
-- alone, and gives no fields: a page of a thousand queues runs it a thousand times, and
-- shows few of their entries.
--
-- KEYS  1     the stream
-- ARGV  1, 2  newest and oldest native id, both included
-- Returns {}, or {id, bytes in its first field's value}.

local e = redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', 1)[1]
if not e then
  return {}
end
return { e[1], #e[2][2] }
