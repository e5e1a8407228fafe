-- trim.lua: makes room in a full queue. push.lua wraps it, after entry.lua, in a function of
-- its own, so that a push that needs no room does not pay for it.

local left = 50 -- entries that one call may still remove

-- make_room removes up to count entries, kept ones first, then the oldest, leased ones never, and
-- returns how many it removed.
local function make_room(count)
  local now = now_ms()
  if count > left then
    count = left
  end
  local done = drop_kept(count, now)
  local from, read = '-', 0
  while done < count and read < TRIM_READ do
    local e = call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
    if not e then
      break
    end
    from = '(' .. e[1]
    read = read + size_of(e[2])
    if not is_leased(e[1], now) then
      evict(e[1], e[2])
      done = done + 1
    end
  end
  left = left - done
  if done > 0 then
    call('HINCRBY', meta, 'trimmed', done)
  end
  return done
end

return make_room
