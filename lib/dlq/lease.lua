-- lease.lua: put after prelude.lua in claim.lua and take.lua.
-- KEYS[9]: the claim; ARGV[1..3]: token, length of the lease (ms), most bytes.

local claim = KEYS[9]
local token, ttl, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

free_first()
local now = now_ms()
local rows, bytes = {}, 0
local records, ends, members = {}, {}, {} -- pairs of arguments, written at the end

-- emit adds an item to the answer: {id, what is left of the lease (ms), prior, state,
-- fields}.
local function emit(id, left, prior, s, fields)
  bytes = bytes + size_of(fields)
  rows[#rows + 1] = { id, left, prior, s, fields }
end

-- grant leases an item; grant_all writes what it noted.
local function grant(id, prior, k, g, s, fields)
  local n = #records
  records[n + 1], records[n + 2] = id, prior .. '|' .. k .. '|' .. g .. '|' .. token
  ends[n + 1], ends[n + 2] = now + ttl, id
  members[n + 1], members[n + 2] = id, ''
  emit(id, ttl, prior, s, fields)
end

-- again adds an item that this token already leases to the answer.
local function again(id, prior)
  local fields = fields_of(id)
  if fields then
    emit(id, tonumber(call('ZSCORE', due, id) or now) - now, prior, call('HGET', state, id), fields)
  end
end

-- The claim outlives its leases, so that a settlement can be repeated.
local function grant_all()
  for i = 1, #records, 1000 do
    local last = math.min(i + 999, #records)
    call('HSET', lease, unpack(records, i, last))
    call('ZADD', due, unpack(ends, i, last))
    call('HSET', claim, unpack(members, i, last))
  end
  if #records > 0 then
    call('PEXPIRE', claim, ttl + KEEP_CLAIM)
  end
end
