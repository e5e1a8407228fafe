-- stats.lua: what is known of a queue. Reads only.
--
-- KEYS  1..8  the queue (prelude.lua)
-- Returns {depth, oldest id, newest id, kept, idle, parked, trimmed, paused}; what is
-- absent is ''.

local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local m = call('HMGET', meta, 'idle', 'parked', 'trimmed', 'paused')
return {
  call('XLEN', stream), first and first[1] or '', last and last[1] or '', call('ZCARD', kept),
  m[1] or '', m[2] or '', m[3] or '', m[4] or '',
}
