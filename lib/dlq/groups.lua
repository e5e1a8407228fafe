-- groups.lua: the groups of a queue. Reads only.
--
-- KEYS  1..13 the queue (prelude.lua)
-- Returns {depth, {field, value, ...}}.

return { call('XLEN', stream), call('HGETALL', groups) }
