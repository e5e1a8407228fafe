-- native.lua: the native ids of a shard's entries, which tell it (shards.go). Put before the scripts that store; those of
-- shard 0, which have none of this, are what Redis gives.

local shard = string.match(KEYS[1], '~(%d+)$')

-- add stores an entry of a shard, and returns its id. The meta field last has the id before, without the shard.
local function add(...)
  local STEP = 1000000000000
  local meta, stream = KEYS[2], KEYS[1]
  local ms, n = now_ms(), 0
  local function after(last_ms, last_n)
    if last_ms >= ms then
      ms, n = last_ms, last_n + 1
    end
    if n >= STEP then
      ms, n = ms + 1, 0
    end
  end
  local function try(with)
    return with('XADD', stream, string.format('%.0f-%.0f', ms, shard * STEP + n), unpack(arg))
  end
  local last_ms, last_n = string.match(redis.call('HGET', meta, 'last') or '', '^(%d+)-(%d+)$')
  if last_ms then
    after(tonumber(last_ms), tonumber(last_n))
  end
  local id = try(redis.pcall)
  if type(id) == 'table' and id.err then
    -- What is kept was lost, or others wrote to the stream.
    local info = redis.pcall('XINFO', 'STREAM', stream)
    for i = 1, #info - 1 do
      if info[i] == 'last-generated-id' then
        local there_ms, there_n = string.match(info[i + 1], '^(%d+)-(%d+)$')
        after(tonumber(there_ms), tonumber(there_n) % STEP)
      end
    end
    id = try(redis.call)
  end
  redis.call('HSET', meta, 'last', string.format('%.0f-%.0f', ms, n))
  return id
end
