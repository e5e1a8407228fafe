-- stats.lua: what is known of a queue. Reads only.
--
-- KEYS  1..8  the queue (prelude.lua)
-- ARGV  1, 2  how often a pass of mend.lua begins, and goes on, in ms
-- Returns {depth, oldest id, newest id, kept, idle, parked, trimmed, paused, mend}; what is
-- absent is ''. mend is 1 where mend.lua has something to do: a pass is under way, or the
-- last one is old, or there is more beside the stream than entries in it.

local depth = call('XLEN', stream)
local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local in_kept = call('ZCARD', kept)
local m = call('HMGET', meta, 'idle', 'parked', 'trimmed', 'paused', 'mend', 'mended', 'mend_at')
local idle, parked = tonumber(m[1] or 0), tonumber(m[2] or 0)
local now, mend = now_ms(), 0
if now - tonumber(m[7] or 0) >= tonumber(ARGV[2]) then
  -- Every entry of ours that waits is under a push key; those of one key share a field.
  local wrong = call('HLEN', ids) + in_kept > depth or call('HLEN', state) > depth or call('ZCARD', due) > depth
    or idle < 0 or idle > depth or parked < 0 or parked > idle
  if m[5] or wrong or depth > 0 and now - tonumber(m[6] or 0) >= tonumber(ARGV[1]) then
    mend = 1
  end
end
return { depth, first and first[1] or '', last and last[1] or '', in_kept, idle, parked, m[3] or '', m[4] or '', mend }
