-- anew.lua: forgets what is kept beside a stream that is empty: others have emptied it, or
-- there was nothing left to forget. What was canceled stays canceled, and what is over in the
-- journal stays noted. push.lua and mend.lua wrap it in the function start_anew.
--
-- Its first write may take memory, so that a Redis at maxmemory refuses a push as ever.

call('HSET', meta, 'mended', now_ms())
if call('EXISTS', groups) == 1 then
  -- Others emptied it: nothing of what the history counts is there.
  local all = call('HGETALL', history)
  for i = 1, #all, 2 do
    call('HSET', history, all[i], math.floor(tonumber(all[i + 1]) / 67108864) * 67108864)
  end
end
call('UNLINK', due, lease, state, ids, groups, kept, expires, generations, unjournaled)
for _, f in ipairs(call('HKEYS', meta)) do
  if f == 'cursor' or f == 'idle' or f == 'parked' or f == 'expired' or f == 'mend' or f == 'retire_at' or string.find(f, '^recount') then
    call('HDEL', meta, f)
  end
end
