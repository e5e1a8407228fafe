-- store.lua: stores one item. scripts.go puts it into the loops of push.lua and return.lua, whose locals
-- it uses: it is no function, which would make every push dearer.

status, detail = 'stored', ''
if len == 0 then
  start_anew()
end
if more[g] then
  more[g] = more[g] + 1
else
  more[g] = 0
  if call('HINCRBY', groups, 'n:' .. g, '1') == 1 then
    -- A new group; each has two fields.
    if call('HLEN', groups) > 2 * max_groups then
      call('HDEL', groups, 'n:' .. g)
      more[g] = nil
      g = ''
    else
      call('HSET', groups, 't:' .. g, group_text)
      fresh[g] = group_text
    end
  end
end
local marked = n == 'expired'
if marked then
  n = 'never'
end
if n ~= '0' and n ~= 'never' then
  detail = math.max(now_ms() + tonumber(n), 1)
  n = detail
end
if x == '' and j == '' then
  id = shard and add('item', item, 'k', k, 'g', g, 'n', n, 'f', f) or call('XADD', stream, '*', 'item', item, 'k', k, 'g', g, 'n', n, 'f', f)
else
  local fields = { 'item', item, 'k', k, 'g', g, 'n', n, 'f', f }
  if x ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'x', x
  end
  if j ~= '' and j ~= '@' then
    fields[#fields + 1], fields[#fields + 2] = 'j', j
  end
  id = shard and add(unpack(fields)) or call('XADD', stream, '*', unpack(fields))
  if x ~= '' and not marked then
    call('ZADD', expires, x, id)
  end
  if j == '@' then
    lacking = lacking or {}
    lacking[#lacking + 1] = id
  end
end
len = len + 1
if stored[g] then
  stored[g][1], stored[g][2] = stored[g][1] + 1, id
else
  stored[g] = { 1, id }
end
if marked then
  call('HSET', state, id, cjson.encode({ expired = now_ms() }))
  call('HINCRBY', meta, 'expired', '1')
end
local later = string.find(k, ',', 1, true)
if later then
  call('ZADD', generations, 0, string.match(k, '[^,]*$') .. ' ' .. id)
end
if others and #others > 0 then
  others[#others + 1] = f .. ':' .. id
  while #others > max_contents do
    local fallen = string.match(table.remove(others, 1), '[^:]*$')
    if not later then
      call('ZADD', generations, 0, k .. ' ' .. fallen)
    end
  end
  call('HSET', ids, k, table.concat(others, ' '))
else
  call('HSET', ids, k, id)
end
if n == 'never' then
  call('HINCRBY', meta, 'idle', '1')
elseif detail ~= '' then
  call('ZADD', due, n, id)
end
