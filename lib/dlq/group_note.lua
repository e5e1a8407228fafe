-- group_note.lua: notes something about a group, which may be empty by now.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     group
--       2     the note, JSON; '': none any more
-- Returns 1, or 0 when nothing is known of the group.

local g = ARGV[1]
if ARGV[2] == '' then
  call('HDEL', causes, 'note:' .. g)
end
local text = call('HGET', causes, 't:' .. g) or call('HGET', groups, 't:' .. g)
if not text then
  return 0
end
if ARGV[2] ~= '' then
  call('HSET', causes, 'note:' .. g, ARGV[2])
end
return 1
