-- history.lua: when the dead letters of a queue came. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     'm', 'h' or 'd': by 5 minutes, hours or days
--       2, 3  first and last of them, since 1970
--       4     '1': one row for all groups
--       5     of this group only, or '' for all
--       6     of this reason only, or ''
--       7     '1': only what is in no group
-- Returns for each row {group, text, first (Unix ms), newest (native id), number of the time, count,
-- number, count, ...}: those times at which something came, in no order, numbered from 1. A count is 2^26 times how many
-- came, and how many of them are still there.

local kind, from, to, total = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local only, reason, other = ARGV[5], ARGV[6], ARGV[7] == '1'
local text, first, newest, names = {}, {}, {}, {}
local all = call('HGETALL', causes)
for i = 1, #all, 2 do
  local what, g = string.sub(all[i], 1, 1), string.sub(all[i], 3)
  if what == 't' then
    text[g] = all[i + 1]
  elseif what == 'f' then
    first[g] = tonumber(all[i + 1])
  elseif what == 'l' then
    newest[g], names[#names + 1] = all[i + 1], g
  end
end
names[#names + 1] = '' -- what is in no group

local function is_asked(g)
  if only == '' and reason == '' and not other then
    return true
  end
  return (only == '' or g == only) and (reason == '' or string.match(text[g] or '', '\n(.*)$') == reason) and (not other or g == '')
end

local rows, sums, seen, out = {}, {}, {}, {} -- sums: by row, number -> count
local function add(g, n, v)
  local name = total and '' or g
  local row = rows[name]
  if not row then
    row = { name, total and '' or text[g] or '', '', '' }
    rows[name], sums[name], out[#out + 1] = row, {}, row
  end
  if not seen[g] then
    seen[g] = true
    if first[g] and (row[3] == '' or first[g] < row[3]) then
      row[3] = first[g]
    end
    if newest[g] and (row[4] == '' or ms_of(newest[g]) > ms_of(row[4])) then
      row[4] = newest[g]
    end
  end
  sums[name][n] = (sums[name][n] or 0) + tonumber(v)
end

if #names * (to - from + 1) > call('HLEN', history) then
  all = call('HGETALL', history)
  for i = 1, #all, 2 do
    local field = all[i]
    if string.byte(field) == string.byte(kind) then
      local colon = string.find(field, ':', 2, true)
      local n = colon and tonumber(string.sub(field, 2, colon - 1)) -- else it is not ours
      if n and n >= from and n <= to then
        local g = string.sub(field, colon + 1)
        if is_asked(g) then
          add(g, n - from + 1, all[i + 1])
        end
      end
    end
  end
else
  for _, g in ipairs(names) do
    if is_asked(g) then
      local fields = {}
      for n = from, to do
        fields[#fields + 1] = kind .. n .. ':' .. g
      end
      for i, v in ipairs(call('HMGET', history, unpack(fields))) do
        if v then
          add(g, i, v)
        end
      end
    end
  end
end

for _, row in ipairs(out) do
  for n, v in pairs(sums[row[1]]) do
    row[#row + 1] = n
    row[#row + 1] = v
  end
end
return out
