-- groups.lua: the groups of a queue. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     '1': those that are empty by now too
-- Returns {depth, {group, text, count, first (Unix ms), newest (native id), note, of the last hour, of
-- the last day, ...}}; what is not known is ''. The last hour begins with five minutes, the last day with
-- an hour on the clock.

local now = now_ms()
local names, text, count = {}, {}, {}
local all = call('HGETALL', groups)
for i = 1, #all, 2 do
  local kind, g = string.sub(all[i], 1, 2), string.sub(all[i], 3)
  if kind == 'n:' then
    names[#names + 1], count[g] = g, all[i + 1]
  else
    text[g] = all[i + 1]
  end
end
if ARGV[1] == '1' then
  all = call('HGETALL', causes)
  for i = 1, #all, 2 do
    local g = string.match(all[i], '^t:(.*)')
    if g and not count[g] then
      names[#names + 1], count[g], text[g] = g, '0', all[i + 1]
    end
  end
end

-- ask reads fields of a hash, some hundred at a time.
local function ask(key, fields)
  local values = {}
  for i = 1, #fields, 4000 do
    local to = math.min(i + 3999, #fields)
    for j, v in ipairs(call('HMGET', key, unpack(fields, i, to))) do
      values[i + j - 1] = v or ''
    end
  end
  return values
end

local asked = {}
for i, g in ipairs(names) do
  asked[3 * i - 2], asked[3 * i - 1], asked[3 * i] = 'f:' .. g, 'l:' .. g, 'note:' .. g
end
local known = ask(causes, asked)

-- Only of the groups that something came to within the day.
local recent, fields = {}, {}
local since = { math.floor((now - 3600000) / 300000) + 1, math.floor((now - 86400000) / 3600000) + 1 }
local to = { math.floor(now / 300000), math.floor(now / 3600000) }
for i, g in ipairs(names) do
  local newest = string.match(known[3 * i - 1], '^%d+')
  if newest and tonumber(newest) > now - 86400000 then
    recent[#recent + 1] = g
    for kind = 1, 2 do
      for n = since[kind], to[kind] do
        fields[#fields + 1] = (kind == 1 and 'm' or 'h') .. n .. ':' .. g
      end
    end
  end
end
local counted, hour, day, at = ask(history, fields), {}, {}, 0
for _, g in ipairs(recent) do
  for kind, sum in ipairs({ hour, day }) do
    sum[g] = 0
    for _ = since[kind], to[kind] do
      at = at + 1
      sum[g] = sum[g] + math.floor((tonumber(counted[at]) or 0) / 67108864)
    end
  end
end

local out = {}
for i, g in ipairs(names) do
  local n = 8 * (i - 1)
  out[n + 1], out[n + 2], out[n + 3] = g, text[g] or '', count[g]
  out[n + 4], out[n + 5], out[n + 6] = known[3 * i - 2], known[3 * i - 1], known[3 * i]
  out[n + 7], out[n + 8] = hour[g] or 0, day[g] or 0
end
return { call('XLEN', stream), out }
