-- present.lua: looks for dead letters that wait, by their identities. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1, 2  most entries and bytes of them to look at
--       3     where the search for the first one goes on: a member of generations, or ''
--       4..   push key and content's fingerprint of each; a push key '@' and a native id is that
--             of an entry that others wrote
-- Returns {done, member or '', row...}: how many it decided, and where the search for the next one goes
-- on. A row is {id or '', address, id, item, address...}: what was found; and entries under the push key that
-- do not tell their content. There is one for each that it looked for.

local looks, read, after = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local out, done = { 0, '' }, 0

-- try looks whether an entry is what is looked for.
local function try(row, id, k, f)
  looks = looks - 1
  local fields = not call('ZSCORE', kept, id) and fields_of(id)
  if not fields then
    return
  end
  read = read - size_of(fields)
  local own, _, _, _, j = small(fields)
  local told = { f = '', item = '' }
  for i = 1, #fields, 2 do
    told[fields[i]] = fields[i + 1]
  end
  if own == '' and k == '@' .. id or own == k and told.f == f then
    row[1], row[2] = id, j
  elseif own == k and told.f == '' then
    row[#row + 1], row[#row + 2], row[#row + 3] = id, told.item, j
  end
end

-- search looks for one, and returns false when it is to go on after a member.
local function search(row, k, f)
  local listed, pairs_of = {}, {}
  if after == '' then
    local native = string.match(k, '^@(%d+%-%d+)$')
    if native then
      try(row, native, k, f)
    end
  end
  for pair in string.gmatch(call('HGET', ids, k) or '', '%S+') do
    table.insert(pairs_of, 1, pair) -- the newest first
  end
  for _, pair in ipairs(pairs_of) do
    local id = id_of(pair)
    listed[id] = true
    local content = string.sub(pair, 1, -#id - 2)
    if row[1] == '' and after == '' and (content == '' or content == f) then
      try(row, id, k, f)
    end
  end
  -- What ids does not tell of the delivery.
  local first = first_of(k)
  local from = after == '' and '[' .. first .. ' ' or '(' .. after
  while row[1] == '' do
    local members = call('ZRANGEBYLEX', generations, from, '(' .. first .. '!', 'LIMIT', 0, 100)
    for _, member in ipairs(members) do
      if looks <= 0 or read <= 0 then
        return false
      end
      after = member
      local id = string.match(member, '%S+$')
      if not listed[id] and row[1] == '' then
        try(row, id, k, f)
      end
    end
    if #members < 100 then
      return true
    end
    from = '(' .. after
  end
  return true
end

for i = 4, #ARGV, 2 do
  if looks <= 0 or read <= 0 then
    break
  end
  local row = { '', '' }
  out[#out + 1] = row
  if not search(row, ARGV[i], ARGV[i + 1]) then
    break
  end
  done, after = done + 1, ''
end
out[1], out[2] = done, after
return out
