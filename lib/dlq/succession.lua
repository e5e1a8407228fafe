-- succession.lua: what the scripts that let a dead letter supersede another know. Put after entry.lua.

-- heir returns the public id of what supersedes an entry, given its state; nil where there is none, or where
-- its id is not noted yet: then superseded_by is the sink that it was to be pushed to.
local function heir(s)
  return s.superseded_by and string.find(s.superseded_by, '~', 1, true) and s.superseded_by
end

-- step_down makes an entry wait: by supersedes it, with the identity as (push key, colon, content). rec is
-- the record of its lease or nil. The lease goes, or stays and says that it is not due any more.
local function step_down(id, s, rec, by, as, stays)
  local _, _, n, _, j = small(fields_of(id))
  if not (rec and parse(rec) == '-' or not rec and idle(id, n)) then
    count('idle', 1, id)
  end
  if s.parked then
    s.parked = nil
    count('parked', -1, id)
  end
  s.held = not s.expired or nil
  s.deaths, s.begun = nil, nil
  s.superseded_by, s.superseded_as = by, as
  call('HSET', state, id, cjson.encode(s))
  if stays then
    call('HSET', lease, id, (string.gsub(rec, '^[^|]*', '-', 1)))
  else
    call('HDEL', lease, id)
    call('ZREM', due, id)
  end
  if address_of(id, j) then
    call('SADD', unjournaled, 's:' .. id)
  end
end
