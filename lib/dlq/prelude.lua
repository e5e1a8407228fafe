-- prelude.lua: put before every script that works on a queue.
-- KEYS[1..8]: the stream and its companions, always in this order (see keys.go).

local stream, meta, due, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local state, ids, groups, kept = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local call = redis.call

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- A Redis at maxmemory refuses a script whose first write may take memory. This write
-- only ever frees some, and lets those after it pass.
local function free_first()
  call('HDEL', meta, '')
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

-- is_after compares native ids.
local function is_after(a, b)
  local am, as = string.match(a, '^(%d+)-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)-(%d+)$')
  am, bm = tonumber(am), tonumber(bm)
  return am > bm or am == bm and tonumber(as) > tonumber(bs)
end

-- ids leads from a push key to what was pushed under it, oldest first, with a space in
-- between: <content's fingerprint>:<native id>, or a native id alone. The entry of that
-- says what its content is; one that an older version pushed does not.
local function id_of(pair)
  return string.match(pair, '[^:]*$')
end

-- start_anew forgets what is kept beside a stream that is empty: others have emptied it, or
-- there was nothing left to forget. Its first write may take memory, so that a Redis at
-- maxmemory refuses a push as ever.
local function start_anew()
  call('HSET', meta, 'mended', now_ms())
  call('UNLINK', due, lease, state, ids, groups, kept)
  for _, f in ipairs(call('HKEYS', meta)) do
    if f == 'cursor' or f == 'idle' or f == 'parked' or f == 'mend' or string.find(f, '^recount') then
      call('HDEL', meta, f)
    end
  end
end
