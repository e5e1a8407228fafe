-- journal_lease.lua: takes, renews or gives back the lease on a sink's journal.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     token
--       2     for how long, in ms; 0: give it back
-- Returns {1 when the token holds the lease now, else 0; 1 when anything is kept of the sink;
-- unjournaled; ended; notes or ''}.

free_first()
local token, ttl, now = ARGV[1], tonumber(ARGV[2]), now_ms()
local l = call('HMGET', meta, 'journal_token', 'journal_until', 'journal')
local held = 0
if ttl == 0 then
  if l[1] == token then
    call('HDEL', meta, 'journal_token', 'journal_until')
  end
elseif not l[1] or l[1] == token or tonumber(l[2]) <= now then
  call('HSET', meta, 'journal_token', token, 'journal_until', now + ttl, 'journal_seen', now)
  held = 1
end
return { held, call('EXISTS', stream), call('SCARD', unjournaled), call('SCARD', ended), l[3] or '' }
