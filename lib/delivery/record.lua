-- record.lua: finds and keeps the record of a delivery. Put before move.lua, pending.lua and get.lua.
--
-- KEYS[1]     the record: JSON, with a TTL. Not of one that was simply delivered, as nearly all are: that is a field of a
-- KEYS[2..4]  bucket, a hash with many of them (internal/redisconn/keys.go), one for each turn of three
-- KEYS[5...]  the buckets on deeper levels that it may be in, three for each of ARGV[4]
-- ARGV[1]     the buckets' field
-- ARGV[2]     how long it is until the next turn, ms
-- ARGV[3]     how long a finished record is kept, ms; at most two turns
-- ARGV[4]     the deeper levels whose buckets are in KEYS, a digit each
-- returns     before it has written anything, a negative number: these levels are needed as well, a digit each
--
-- A bucket takes what is delivered in its turn, one in three, and goes when the last of it has been kept long enough: before its next turn.
-- Redis packs a small hash. So a bucket that is full leaves the rest of its turn to the next level, which has eight times as many, and the
-- first bucket notes it. A turn begins on the level that is enough for as many as the turn before it had.

local call = redis.call
local at = call('TIME')
local now = at[1] * 1000 + math.floor(at[2] / 1000)
local turn = tonumber(ARGV[2])
local this = math.floor(now / turn) -- the number of the turn
local SHORT, MOST = 9, 31 -- characters of a fingerprint, and attempts, that a bucket keeps
local TIMES = { 'accepted_at', 'not_before', 'expires_at' } -- that it keeps where there are any
local DEEPER, MORE = { '1', '2', '3' }, 8 -- levels after the first, and how many times as many buckets each has
local FULL, EXPECTED = 112, 80 -- records in a bucket: when it is full, some before it has 128, and how many a turn may begin with
local NOTE = 'levels' -- the first bucket's field that names deeper ones in use, a digit each

-- ms_of reads a time as Go writes it, in UTC. Nil: it is none.
local function ms_of(text)
  local y, m, d, H, M, S, rest = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)(%.?%d*)Z$')
  if not y then
    return nil
  end
  -- The days since 1970, with years that begin in March.
  y, m = tonumber(y), tonumber(m)
  if m < 3 then
    y, m = y - 1, m + 12
  end
  local days = 365 * y + math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400) + math.floor((153 * (m - 3) + 2) / 5) + d - 719469
  return ((days * 24 + H) * 60 + M) * 60000 + S * 1000 + math.floor((tonumber('0' .. rest) or 0) * 1000)
end

-- packed is what a bucket keeps of a record; nil: it says more than that, and has a key of its own.
local function packed(r)
  local attempts = r.attempts or 0
  if r.status ~= 'delivered' or r.answer or r.item_id or r.dead_lettered_at or (r.unanswered or 0) > 0 or r.pending or r.former or r.former_status
    or attempts > MOST or #(r.fingerprint or '') < SHORT then
    return nil
  end
  local took, began, updated = 0, r.began_at, r.updated_at or ''
  if began and string.sub(began, 1, 14) == string.sub(updated, 1, 14) then -- in one hour
    local m, s = string.match(began, '^..............(%d%d):([%d.]+)Z$')
    local M, S = string.match(updated, '^..............(%d%d):([%d.]+)Z$')
    took = m and M and math.floor((M - m) * 60000 + (S - s) * 1000) + 1 or -1
  elseif began then
    began, updated = ms_of(began), ms_of(updated)
    took = began and updated and updated - began + 1 or -1
  end
  if took < 0 or took > 65535 then
    return nil
  end
  local times, flags = '', 0
  for i, name in ipairs((r.accepted_at or r.not_before or r.expires_at) and TIMES or {}) do
    if r[name] then
      local left, bytes = ms_of(r[name]), ''
      if not left then
        return nil
      end
      for _ = 1, 8 do
        bytes, left = string.char(left % 256) .. bytes, math.floor(left / 256)
      end
      times, flags = times .. bytes, flags + 2 ^ (i + 4)
    end
  end
  local since = now % turn
  return string.sub(r.fingerprint, 1, SHORT) .. string.char(math.floor(since / 16777216) % 256, math.floor(since / 65536) % 256,
    math.floor(since / 256) % 256, since % 256, attempts + flags, math.floor(took / 256), took % 256) .. times
end

-- unpacked is the record that a bucket of the turn n keeps, without whose it is.
local function unpacked(v, n)
  local function number(from, to)
    local sum = 0
    for i = from, to do
      sum = sum * 256 + string.byte(v, i)
    end
    return sum
  end
  -- text_of writes a time as Go reads it.
  local function text_of(ms)
    local days = math.floor(ms / 86400000)
    local z = days + 719468
    local era = math.floor(z / 146097)
    local doe = z - era * 146097
    local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
    local mp = math.floor((5 * doy + 2) / 153)
    local month, rest = mp < 10 and mp + 3 or mp - 9, ms - days * 86400000
    return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', yoe + era * 400 + (month < 3 and 1 or 0), month,
      doy - math.floor((153 * mp + 2) / 5) + 1, math.floor(rest / 3600000), math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60, rest % 1000)
  end

  local updated, attempts, took = n * turn + number(SHORT + 1, SHORT + 4), number(SHORT + 5, SHORT + 5), number(SHORT + 6, SHORT + 7)
  local r = { status = 'delivered', fingerprint = string.sub(v, 1, SHORT), updated_at = text_of(updated) }
  if attempts % 32 > 0 then
    r.attempts = attempts % 32
  end
  if took > 0 then
    r.began_at = text_of(updated - took + 1)
  end
  local from = SHORT + 8
  for i, name in ipairs(TIMES) do
    if math.floor(attempts / 2 ^ (i + 4)) % 2 == 1 then
      r[name], from = text_of(number(from, from + 7)), from + 8
    end
  end
  return r
end

-- first is the bucket of a turn on the first level, and deeper the one on another; nil: it is not in KEYS.
local function first(n)
  return KEYS[2 + n % 3]
end
local function deeper(level, n)
  local p = string.find(ARGV[4], level, 1, true)
  return p and KEYS[2 + p * 3 + n % 3]
end

local own, found_in, found_turn -- what find found: a key of its own; or in which bucket, of which turn

local function unpacked_from(key, n, v)
  found_in, found_turn = key, n
  local r = unpacked(v, n)
  return r, cjson.encode(r)
end

-- find returns the record and its text; nil: there is none. The third is what else is needed to tell.
local function find()
  own = call('GET', KEYS[1])
  if own then
    return cjson.decode(own), own
  end
  local levels = ''
  for n = this, this - 2, -1 do
    local got = call('HMGET', first(n), ARGV[1], NOTE)
    if got[1] then
      return unpacked_from(first(n), n, got[1])
    end
    levels = levels .. (got[2] or '')
  end
  if levels == '' then
    return nil
  end
  local needed = ''
  for _, level in ipairs(DEEPER) do
    -- What one turn notes is looked for in all: another's note may have been evicted.
    if not string.find(levels, level, 1, true) then
    elseif not deeper(level, this) then
      needed = needed .. level
    else
      for n = this, this - 2, -1 do
        local key = deeper(level, n)
        local v = call('HGET', key, ARGV[1])
        if v then
          return unpacked_from(key, n, v)
        end
      end
    end
  end
  return nil, nil, needed ~= '' and -needed or nil
end

-- level_expected is where this turn begins, by what the turn before it has; 0: on the first level.
local function level_expected()
  local n = this - 1
  local sum, many, levels = call('HLEN', first(n)), 1, call('HGET', first(n), NOTE) or ''
  for _, level in ipairs(DEEPER) do
    many = many * MORE
    if string.find(levels, level, 1, true) then
      local key = deeper(level, n)
      sum = sum + (key and call('HLEN', key) or EXPECTED) * many
    end
  end
  local level = 0
  while sum > EXPECTED and level < #DEEPER do
    sum, level = sum / MORE, level + 1
  end
  return level
end

-- put makes v a field of the bucket of this turn that has room. One that is not in KEYS is noted for those who come, and a fuller one takes it.
local function put(v)
  local top = first(this)
  local levels = call('HGET', top, NOTE) or ''
  local level = tonumber(string.sub(levels, -1)) or 0
  local key = level > 0 and deeper(DEEPER[level], this) or top
  local count = call('HLEN', key)
  local next = level
  if count == 0 and key == top then
    next = level_expected()
  elseif count >= FULL and level < #DEEPER and (key ~= top or level == 0) then
    next = level + 1
  end
  local ends = math.min((this + 1) * turn + ARGV[3], (this + 3) * turn - 1)
  if next > level then
    call('HSET', top, NOTE, levels .. next)
    call('PEXPIREAT', top, ends)
    key = deeper(DEEPER[next], this) or key
    count = call('HLEN', key)
  end
  call('HSET', key, ARGV[1], v)
  if count == 0 then
    call('PEXPIREAT', key, ends)
  end
end

-- keep keeps the record that find was asked for, for ms where it has a key of its own, and returns its text: '' where it has none. It is
-- in one place, so that nothing older answers once that is gone.
local function keep(r, ms)
  local v = packed(r)
  if not v then
    local text = cjson.encode(r)
    call('SET', KEYS[1], text, 'PX', ms)
    if found_in then
      call('HDEL', found_in, ARGV[1])
    end
    return text
  end
  if found_in and found_turn == this then
    call('HSET', found_in, ARGV[1], v)
    return ''
  end
  -- First: what frees memory lets the others pass.
  if found_in then
    call('HDEL', found_in, ARGV[1])
  elseif own then
    call('DEL', KEYS[1])
  end
  put(v)
  return ''
end

-- is_of reports whether a record is of some content, and whether it tells.
local function is_of(r, fingerprint)
  local own = r.fingerprint or ''
  if #own == SHORT then
    return own == string.sub(fingerprint, 1, SHORT), true
  end
  return own == fingerprint, #own == #fingerprint
end
