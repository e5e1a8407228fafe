-- push.lua: stores dead letters.
--
-- KEYS  1..8  the queue (prelude.lua)
-- ARGV  1     most entries in the stream, 0: no bound
--       2     '1': at the bound remove the oldest (trim), '0': refuse
--       3     most groups
--       4     most contents that one push key leads to
--       then for each item: push key, content's fingerprint, group, group's text, not
--       before ('0', 'never', or ms from now), item, and what is known of entries that do
--       not tell their content: <content's fingerprint>:<native id>, with a space in between
-- Returns {removed, status, id, more, status, id, more, ...}; the status is
--   'stored'   more: when it is due (Unix ms), or ''
--   'exists'   the same content is stored under the push key: id, and its not-before
--   'compare'  nothing was stored: the entry with this id may have the same content; more
--              is its item. Ask again with what it is
--   'full'     nothing was stored
--
-- The push key is looked up first, must lead to an entry that exists and was not delivered,
-- and is written last: a refused or discarded dead letter is never taken for a stored one.

local max, trim = tonumber(ARGV[1]), ARGV[2] == '1'
local max_contents = tonumber(ARGV[4])
local out = { 0 }
local make_room -- once there is need
local more = {} -- groups of this call, and how many are not counted yet
local len = call('XLEN', stream)

local function count_more()
  for g, n in pairs(more) do
    if n > 0 then
      call('HINCRBY', groups, 'n:' .. g, n)
    end
  end
  more = {}
end

local function full()
  if max == 0 or len < max then
    return false
  end
  if trim then
    count_more() -- make_room decrements the groups of what it removes
    make_room = make_room or trimmer()
    local removed = make_room(len - max + 1)
    out[1] = out[1] + removed
    len = len - removed
    return false
  end
  return len - call('ZCARD', kept) >= max
end

-- entry returns the fingerprint ('' when it does not tell), not-before and item of an entry
-- that waits; nil when it is gone or was delivered.
local function entry(id)
  local e = call('XRANGE', stream, id, id)[1]
  if not e or call('ZSCORE', kept, id) then
    return nil
  end
  local f, n, item = '', '', ''
  for i = 1, #e[2], 2 do
    local name = e[2][i]
    if name == 'f' then
      f = e[2][i + 1]
    elseif name == 'n' then
      n = e[2][i + 1]
    elseif name == 'item' then
      item = e[2][i + 1]
    end
  end
  return f, n, item
end

-- find looks for a content among what a push key leads to: it returns a status, id and
-- more, or false and the pairs of the other contents, of entries that wait.
local function find(k, f, known)
  local others = {}
  for pair in string.gmatch(call('HGET', ids, k) or '', '%S+') do
    local id = id_of(pair)
    local content = string.sub(pair, 1, -#id - 2)
    if content ~= '' and content ~= f then
      others[#others + 1] = pair
    else
      local told, n, item = entry(id)
      if told then
        for fact in string.gmatch(told == '' and content == '' and known or '', '%S+') do
          if id_of(fact) == id then
            content = string.sub(fact, 1, -#id - 2)
          end
        end
        if told ~= '' then
          content = told
        end
        if content == '' then
          return 'compare', id, item
        elseif content == f then
          return 'exists', id, n
        end
        others[#others + 1] = content .. ':' .. id
      end
    end
  end
  return false, others
end

-- add stores an item whose content is not there yet, beside the others of its push key. It
-- returns the id and when it is due.
local function add(others, k, f, g, text, n, item)
  if len == 0 then
    start_anew()
  end
  if more[g] then
    more[g] = more[g] + 1
  else
    more[g] = 0
    if call('HINCRBY', groups, 'n:' .. g, '1') == 1 then
      -- A new group; each has two fields.
      if call('HLEN', groups) > 2 * tonumber(ARGV[3]) then
        call('HDEL', groups, 'n:' .. g)
        more[g] = nil
        g = ''
      else
        call('HSET', groups, 't:' .. g, text)
      end
    end
  end
  local at = ''
  if n ~= '0' and n ~= 'never' then
    at = math.max(now_ms() + tonumber(n), 1)
    n = at
  end
  local id = call('XADD', stream, '*', 'item', item, 'k', k, 'g', g, 'n', n, 'f', f)
  len = len + 1
  if #others == 0 then
    call('HSET', ids, k, id)
  else
    others[#others + 1] = f .. ':' .. id
    call('HSET', ids, k, table.concat(others, ' ', math.max(1, #others - max_contents + 1)))
  end
  if n == 'never' then
    call('HINCRBY', meta, 'idle', '1')
  elseif at ~= '' then
    call('ZADD', due, at, id)
  end
  return id, at
end

for i = 5, #ARGV, 7 do
  local k, f, known = ARGV[i], ARGV[i + 1], ARGV[i + 6]
  local status, id, detail = find(k, f, known)
  if not status then
    local others, removed = id, out[1]
    if full() then
      status, id, detail = 'full', '', ''
    else
      if out[1] > removed and #others > 0 then
        local _
        _, others = find(k, f, known) -- some of them may have been removed
      end
      status = 'stored'
      id, detail = add(others, k, f, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
    end
  end
  out[#out + 1] = status
  out[#out + 1] = id
  out[#out + 1] = detail
end
count_more()
return out
