-- lease.lua: put after entry.lua and death.lua in claim.lua, take.lua, overdue.lua and
-- delivery.lua. KEYS[16]: the claim; ARGV[1..3]: token, length of the lease (ms), most bytes.

local claim = KEYS[16]
local token, ttl, max_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

free_first()
local now = now_ms()
local rows, bytes = {}, 0
local records, ends, members = {}, {}, {} -- pairs of arguments, written at the end
local quiet = '' -- '|quiet' where nothing is sent under the leases

-- emit adds an item to the answer: {id, what is left of the lease (ms), prior, state,
-- fields}.
local function emit(id, left, prior, s, fields)
  bytes = bytes + size_of(fields)
  rows[#rows + 1] = { id, left, prior, s, fields }
end

-- grant leases an item; grant_all writes what it noted.
local function grant(id, prior, k, g, j, s, fields)
  local n = #records
  local rec = prior .. '|' .. k .. '|' .. g .. '|' .. token .. quiet
  if j ~= '' then
    rec = rec .. (quiet == '' and '||' or '|') .. j
  end
  records[n + 1], records[n + 2] = id, rec
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

-- repeated answers a claim that was made before with what it still leases, and returns
-- whether there was one.
local function repeated()
  local earlier = call('HKEYS', claim)
  for _, id in ipairs(earlier) do
    local rec = call('HGET', lease, id)
    if rec then
      local prior, _, _, holder = parse(rec)
      if holder == token and is_leased(id, now) then
        again(id, prior)
      end
    end
  end
  return #earlier > 0
end

-- lend leases an item, due or not, given its fields and the record of a lease that ran out.
local function lend(id, rec, fields)
  local k, g, n, _, j = small(fields)
  local prior, holder
  if rec then
    prior, _, _, holder = parse(rec)
  else
    prior = call('ZSCORE', due, id)
    if not prior then
      prior = idle(id, n) and '-' or ms_of(id)
    end
  end
  local s = rec and holder ~= token and outlived(id, rec, now) or call('HGET', state, id)
  grant(id, prior, k, g, j, s, fields)
end

-- answer is what the scripts return. Where any cancellation is noted, it also says which
-- rows are of a delivery that is canceled: 1, else 0.
local function answer(more)
  local flags = {}
  if #rows > 0 and call('EXISTS', canceled) == 1 then
    local firsts = {}
    for i, row in ipairs(rows) do
      firsts[i] = first_of((small(row[5])))
    end
    for i, till in ipairs(call('ZMSCORE', canceled, unpack(firsts))) do
      flags[i] = till and tonumber(till) > now and 1 or 0
    end
  end
  return { more, rows, flags }
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
