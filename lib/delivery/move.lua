-- move.lua: does to a delivery's record what an event makes of it.
--
-- KEYS, ARGV[1..4]  as in record.lua
-- ARGV[5]  the event. Its row of the table (table.go) is in row, which Go puts before this:
--          lines of <situation>=<verdict>:<status>
-- ARGV[6]  token of who has the delivery, or wants it; '': of nobody
-- ARGV[7]  fingerprint of the content; '': of any
-- ARGV[8]  what a new record says, JSON without status; '': nothing new
-- ARGV[9]  how long one that waits, or was canceled, is kept, ms
-- ARGV[10] lease, ms; '': none
-- ARGV[11] '1': the dead letter ARGV[12] ('': without an id) is known to be gone
-- ARGV[12] its id
-- returns  {verdict, the record that was found or '', the record as it is now or ''}; of one that a bucket has now, only if it is as
--          it was: who delivered it knows it

local old, found, needed = find()
if needed then
  return needed
end
local token, fingerprint = ARGV[6], ARGV[7]

-- The situation, and the suffix that says more of it.
local situation, suffix = 'none', ''
if old then
  situation = old.status
  local open = situation == 'in_progress' or situation == 'accepting'
  -- A fingerprint of another length is an older version's: it tells nothing of the content.
  local same, comparable = is_of(old, fingerprint)
  same = same or fingerprint == ''
  if token ~= '' and old.token == token then
    suffix = '/mine'
  elseif open and old.until_ms <= now then
    suffix = '/ended'
  end
  if situation == 'canceled' then
    if not same and (old.fingerprint or '') ~= '' then suffix = '/another' end
  elseif not same and comparable then
    situation, suffix = 'other', ''
  elseif not same and not open then
    situation, suffix = 'older', ''
  elseif ARGV[11] == '1' and (situation == 'dead_lettered' or situation == 'expired') and (old.item_id or '') == ARGV[12] then
    situation, suffix = 'gone', ''
  end
end

local function line(row, name)
  local _, at = string.find(row, '\n' .. name .. '=', 1, true)
  if at then
    return string.match(row, '^([^:\n]*):([^\n]*)', at + 1)
  end
end
local verdict, status = line(row, situation .. suffix)
if not verdict then
  verdict, status = line(row, situation)
end
if status == '' then
  return { verdict, found or '', found or '' }
end

local function kept(r)
  local ms, s = tonumber(ARGV[3]), r.status
  if s == 'accepting' or s == 'accepted' or s == 'canceled' or r.accepted_at and s == 'in_progress' then
    ms = tonumber(ARGV[9])
  end
  return { verdict, found or '', keep(r, math.max(ms, tonumber(ARGV[10]) or 0)) }
end

if status == 'forget' or status == 'restore' and not old.former then
  call('DEL', KEYS[1])
  return { verdict, found or '', '' }
end
if status == 'restore' then
  return kept(cjson.decode(old.former))
end

local new = ARGV[8] == '' and {} or cjson.decode(ARGV[8])
new.status = status
if old and situation ~= 'older' and situation ~= 'gone' then
  if old.status == 'in_progress' or old.status == 'accepting' or old.status == 'accepted' then
    -- What was accepted first holds.
    new.accepted_at, new.not_before = old.accepted_at or new.accepted_at, old.not_before or new.not_before
    new.expires_at, new.began_at = old.expires_at, old.began_at or new.began_at
  end
  if old.status == 'in_progress' and suffix == '/ended' and not old.left then
    -- Its owner may have sent it, and died.
    new.unanswered = (new.unanswered or 0) + (old.unanswered or 0) + 1
  end
  -- One by one: a loop over their names makes a table of them in each call.
  if new.sink == nil then new.sink = old.sink end
  if new.delivery_id == nil then new.delivery_id = old.delivery_id end
  if new.fingerprint == nil then new.fingerprint = old.fingerprint end
  if new.answer == nil then new.answer = old.answer end
  if new.item_id == nil then new.item_id = old.item_id end
  if new.accepted_at == nil then new.accepted_at = old.accepted_at end
  if new.not_before == nil then new.not_before = old.not_before end
  if new.expires_at == nil then new.expires_at = old.expires_at end
  if new.began_at == nil then new.began_at = old.began_at end
  if new.dead_lettered_at == nil then new.dead_lettered_at = old.dead_lettered_at end
  if new.attempts == nil then new.attempts = old.attempts end
  if new.unanswered == nil then new.unanswered = old.unanswered end
end
if old and situation == 'gone' and (old.unanswered or 0) > 0 then
  -- It begins anew; what may have arrived of it may have all the same, and counts from then.
  new.unanswered, new.began_at = old.unanswered, old.began_at or new.began_at
end
if old and old.pending then
  -- Events that are not told yet stay, also of what begins anew.
  local pending, known = old.pending, {}
  for _, e in ipairs(pending) do
    known[e.id] = true
  end
  for _, e in ipairs(new.pending or {}) do
    if not known[e.id] then
      pending[#pending + 1] = e
    end
  end
  new.pending = pending
end
new.token = token ~= '' and token or old and old.token or nil
if ARGV[10] ~= '' then
  new.until_ms = now + tonumber(ARGV[10])
end
new.left = ARGV[5] == 'leave' or nil
if verdict ~= 'written' and (status == 'in_progress' or status == 'accepting') then
  -- The reply may be lost, and the call made again.
  if suffix == '/mine' and old.status == status then
    verdict = old.taken or verdict
  end
  new.taken = verdict
end
if status == 'canceled' and old and old.status == 'canceled' then
  new.former, new.former_status = old.former, old.former_status or new.former_status
elseif status == 'canceled' and old then
  new.former, new.former_status = found, old.status
end
return kept(new)
