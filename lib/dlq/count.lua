-- count.lua: counts what was stored, by group. scripts.go puts it into push.lua and return.lua, whose
-- locals it uses.

local stored = {} -- by group: how many entries, and the native id of the newest
local fresh = {} -- of these, the groups that were empty: group -> text

-- count_in writes what was noted so far. Of each group it counts the entries in three fields of the
-- history (history.lua): PACKED is one that came and is still there.
local function count_in()
  local PACKED, MAX_FIELDS, MAX_CAUSES, MAX_NEW = 67108865, 8192, 8 * max_groups, 100
  local function count_at(time, g, n)
    if call('HINCRBY', history, time .. g, n) == n and call('HLEN', history) > MAX_FIELDS then
      call('HDEL', history, time .. g)
      call('HINCRBY', history, time, n)
    end
  end
  for g, n in pairs(more) do
    if n > 0 then
      call('HINCRBY', groups, 'n:' .. g, n)
    end
  end
  for g, s in pairs(stored) do
    local n, id = s[1] * PACKED, s[2]
    local ms = tonumber(string.match(id, '^%d+'))
    count_at('m' .. math.floor(ms / 300000) .. ':', g, n)
    count_at('h' .. math.floor(ms / 3600000) .. ':', g, n)
    count_at('d' .. math.floor(ms / 86400000) .. ':', g, n)
    if g ~= '' and not fresh[g] then
      call('HSET', causes, 'l:' .. g, id)
    elseif g ~= '' then
      local known = call('HEXISTS', causes, 'f:' .. g) == 1
      if known then
        call('HSET', causes, 'l:' .. g, id)
      elseif call('HLEN', causes) < MAX_CAUSES then
        call('HSET', causes, 'f:' .. g, ms, 'l:' .. g, id, 't:' .. g, fresh[g])
        local new = call('HGET', meta, 'new') or ''
        local _, waiting = string.gsub(new, '%S+', '')
        if waiting < MAX_NEW then
          call('HSET', meta, 'new', new .. ' ' .. g)
        end
      end
    end
  end
  more, stored, fresh = {}, {}, {}
end
