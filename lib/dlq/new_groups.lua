-- new_groups.lua: tells of the groups that are new, and notes whom somebody was told of.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1..   groups that were told
-- Returns the others.

local told, left = {}, {}
for _, g in ipairs(ARGV) do
  told[g] = true
end
for g in string.gmatch(call('HGET', meta, 'new') or '', '%S+') do
  if not told[g] then
    left[#left + 1] = g
  end
end
if #ARGV > 0 then
  if #left == 0 then
    call('HDEL', meta, 'new')
  else
    call('HSET', meta, 'new', table.concat(left, ' '))
  end
end
return left
