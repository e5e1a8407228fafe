-- prelude.lua: put before every script that works on a queue, after clock.lua.
-- KEYS[1..15]: the stream and its companions, always in this order (internal/redisconn/keys.go).

local stream, meta, due, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local state, ids, groups, kept = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local expires, generations, canceled = KEYS[9], KEYS[10], KEYS[11]
local ended, unjournaled = KEYS[12], KEYS[13]
local causes, history = KEYS[14], KEYS[15]
local call = redis.call

-- A Redis at maxmemory refuses a script whose first write may take memory. This write
-- only ever frees some, and lets those after it pass.
local function free_first()
  call('HDEL', meta, '')
end

-- decoded reads the JSON that is kept of an entry. Of none, and of one that is damaged, nothing is known, as Go reads it: one entry
-- must not stop a queue.
local function decoded(text)
  local ok, s = pcall(cjson.decode, text or '{}')
  return ok and type(s) == 'table' and s or {}
end

local function ms_of(id)
  return tonumber(string.match(id, '^%d+'))
end

-- first_of returns the push key of a delivery's first generation, by which all of them are
-- found: that of a later one is "<own>,<first>".
local function first_of(k)
  return string.match(k, '[^,]*$')
end
