-- find.lua: looks for a content among those under a push key. push.lua wraps it in a function
-- of its own, so that a push of a new key does not pay for it.

-- read returns the fingerprint ('' when it does not tell), not-before, item, expiry and address ('':
-- none) of an entry that waits; nil when it is gone or was delivered.
local function read(id)
  local e = call('XRANGE', stream, id, id)[1]
  if not e or call('ZSCORE', kept, id) then
    return nil
  end
  local fields = { f = '', n = '', item = '', x = '', j = '' }
  for i = 1, #e[2], 2 do
    fields[e[2][i]] = e[2][i + 1]
  end
  return fields.f, fields.n, fields.item, fields.x, fields.j
end

-- is_over tells whether an entry's time is over, or it was marked as expired.
local function is_over(id, x)
  if x ~= '' and tonumber(x) <= now_ms() then
    return true
  end
  return decoded(call('HGET', state, id)).expired
end

-- is_superseded tells whether another dead letter has taken its place: a new failure of its delivery is not it.
local function is_superseded(id)
  return decoded(call('HGET', state, id)).superseded_by
end

local function split(pair)
  local id = string.match(pair, '[^:]*$')
  return string.sub(pair, 1, -#id - 2), id
end

-- find returns a status of push.lua, id, more and address; or nil and the other pairs: other contents, what is
-- superseded, and those whose time is over, unless what is pushed expires when they did. With '*' time and
-- superseding do not matter.
local function find(pairs_of, f, known, expiry)
  local others = {}
  for pair in string.gmatch(pairs_of, '%S+') do
    local content, id = split(pair)
    if content ~= '' and content ~= f then
      others[#others + 1] = pair
    else
      local told, n, item, x, j = read(id)
      if told and told ~= '' then
        content = told
      elseif told and content == '' then
        for fact in string.gmatch(known, '%S+') do
          local c, of = split(fact)
          if of == id then
            content = c
          end
        end
      end
      if told and content == '' then
        return 'compare', id, item
      elseif told and content == f and (expiry == '*' or (x == expiry or not is_over(id, x)) and not is_superseded(id)) then
        return 'exists', id, n, j
      elseif told then
        others[#others + 1] = content .. ':' .. id
      end
    end
  end
  return nil, others
end

return find
