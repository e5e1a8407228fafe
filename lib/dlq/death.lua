-- death.lua: put after entry.lua in what takes over, or takes away, a lease that ran out.

-- outlived charges an entry with the death of the process whose lease on it ran out, and
-- returns its state. The first is charged in any case, and then what had begun (begin.lua):
-- most of what a process leases it has not begun when it dies. Nothing is sent under a quiet
-- lease. The replay that it died under may have arrived.
local function outlived(id, rec, now)
  local _, _, _, holder, quiet = parse(rec)
  local text = call('HGET', state, id)
  local s = decoded(text)
  if (s.deaths or quiet ~= '') and s.begun ~= holder then
    return text
  end
  s.deaths = (s.deaths or 0) + 1
  s.replays = (s.replays or 0) + 1
  s.unanswered = (s.unanswered or 0) + 1
  s.begun = nil
  local h = s.history or {}
  h[#h + 1] = { at = now, error = DIED_UNDER }
  while #h > MAX_HISTORY do
    table.remove(h, 1)
  end
  s.history = h
  text = cjson.encode(s)
  call('HSET', state, id, text)
  return text
end
