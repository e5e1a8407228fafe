-- stats.lua: what is known of a queue. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1, 2  how often a pass of mend.lua begins, and goes on, in ms
--       3     most leases to look at
--       4     '1': there is a journal
-- Returns {depth, oldest id, newest id, kept, idle, parked, trimmed, paused, mend, replaying,
-- of these parked, of these waiting, scheduled, expired, of the replaying ones expired, overdue,
-- canceled, retired, number of new groups, and of the journal, where there is one: whether anything is kept of the sink,
-- unjournaled, ended, notes}; what is absent is ''. kept, idle, parked, expired (marked) and overdue (to be
-- marked) count leased entries too; canceled are notes. mend is 1 where mend.lua has something to do: a pass is under way, or the
-- last one is old, or there is more beside the stream than entries in it, or no entry was looked
-- at yet of which the journal may know nothing.

local depth = call('XLEN', stream)
local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local in_kept = call('ZCARD', kept)
local m = call('HMGET', meta, 'idle', 'parked', 'trimmed', 'paused', 'mend', 'mended', 'mend_at', 'expired', 'retired',
  'journal', 'journal_to', 'new')
local idle, parked, expired = tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[8] or 0)
local now, mend = now_ms(), 0
if now - tonumber(m[7] or 0) >= tonumber(ARGV[2]) then
  -- Every entry of ours that waits is under a push key; those of one key share a field.
  local wrong = call('HLEN', ids) + in_kept > depth or call('HLEN', state) > depth or call('ZCARD', due) > depth
    or call('ZCARD', expires) > depth or call('ZCARD', generations) > depth
    or idle < 0 or idle > depth or parked < 0 or expired < 0 or parked + expired > idle
  local unseen = ARGV[4] == '1' and depth > 0 and (m[11] or '0-0') == '0-0'
  local old = now - tonumber(m[6] or 0) >= tonumber(ARGV[1])
  if m[5] or wrong or unseen or old and (depth > 0 or call('EXISTS', causes) == 1) then
    mend = 1
  end
end

-- A leased entry has a score in the due set too: the end of its lease. Where there are more
-- leases than it looks at, all count as replaying, and as due before.
local leases, later = call('HLEN', lease), call('ZCOUNT', due, '(' .. now, '+inf')
local replaying, replaying_expired, replaying_parked, replaying_waiting = leases, 0, 0, 0
local scheduled = later - leases
if leases > 0 and leases <= tonumber(ARGV[3]) then
  replaying, scheduled = 0, later
  local all, leased, idles = call('HGETALL', lease), {}, {}
  for i = 1, #all, 2 do
    leased[#leased + 1] = all[i]
  end
  for i, score in ipairs(call('ZMSCORE', due, unpack(leased))) do
    local prior = parse(all[2 * i])
    if score and tonumber(score) > now then
      replaying, scheduled = replaying + 1, scheduled - 1
      if prior == '-' then
        idles[#idles + 1] = leased[i]
      end
    elseif prior ~= '-' and tonumber(prior) > now then
      scheduled = scheduled + 1 -- the lease ran out, and nobody took the entry over yet
    end
  end
  for _, s in ipairs(#idles > 0 and call('HMGET', state, unpack(idles)) or {}) do
    s = decoded(s)
    if s.delivered_at then
      replaying = replaying - 1
    elseif s.expired then
      replaying_expired = replaying_expired + 1
    elseif s.parked then
      replaying_parked = replaying_parked + 1
    else
      replaying_waiting = replaying_waiting + 1
    end
  end
end
local _, new = string.gsub(m[12] or '', '%S+', '')
local journal = {}
if ARGV[4] == '1' then
  journal = { call('EXISTS', stream), call('SCARD', unjournaled), call('SCARD', ended), m[10] or '' }
end
return { depth, first and first[1] or '', last and last[1] or '', in_kept, idle, parked, m[3] or '', m[4] or '', mend,
  replaying, replaying_parked, replaying_waiting, scheduled, expired, replaying_expired,
  call('ZCOUNT', expires, '-inf', now), call('ZCARD', canceled), m[9] or '', new, unpack(journal) }
