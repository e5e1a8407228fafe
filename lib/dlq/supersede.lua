-- supersede.lua: stores a dead letter that supersedes another, leases it, and holds the other, where that is
-- in the same queue: all or nothing.
--
-- KEYS  1..15 the queue (prelude.lua)
--       16    the claim
-- ARGV  1..3  token, length of the new one's lease in ms, most bytes: not used (lease.lua)
--       4     native id of the other, whose lease has the token; '': it is in another queue
--       5     what makes a native id of this queue a public one: the sink and '~'
--       6     most entries in the stream, without the kept ones; 0: no bound; negative: none
--       7..9  most groups, most contents, what is known (push.lua)
--       10..  the new one, as in push.lua: push key, content's fingerprint, group, group's text, not before,
--             item, address
-- Returns {status, id, more}. The status is
--   'stored', 'exists'  more: {0, {row}, {flag}} (lease.lua); no row where another leases it
--   'superseded'        the other is by the public id id, with the identity more (superseded.lua)
--   'fenced'            the token does not hold the other's lease
--   'full', 'compare'   as in push.lua
-- Only where it was stored or exists was anything changed.

local former, prefix, max = ARGV[4], ARGV[5], tonumber(ARGV[6])
local max_groups, max_contents, known = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local k, f, g, group_text, n, item, j = unpack(ARGV, 10, 16)
local x = '' -- when it expires
if n ~= '0' and n ~= 'never' then
  n, x = string.match(n, '^([^ ]*) ?(.*)$')
end
local s, rec
if former ~= '' then
  local text = call('HGET', state, former)
  s = decoded(text)
  if heir(s) then
    return { 'superseded', heir(s), s.superseded_as or '' }
  end
  rec = call('HGET', lease, former)
  local _, _, _, holder = parse(rec or '|||')
  if holder ~= token or not fields_of(former) then
    return { 'fenced', '', '' }
  end
end

local over, lacking
local more = {} -- these by the names of push.lua
-- count.lua
local len = call('XLEN', stream)
local under = call('HGET', ids, k)
local status, id, detail, others
if under then
  status, id, detail = finder()(under, f, known, '*')
  others = id
end
if status == 'compare' then
  return { status, id, detail }
end
if not status and max ~= 0 and len - call('ZCARD', kept) >= max then
  return { 'full', '', '' }
end
if not status then
  -- store.lua
end
count_in()
-- noted.lua
local held = call('HGET', lease, id)
if not held or not is_leased(id, now) then
  lend(id, held, fields_of(id))
else
  local prior, _, _, holder = parse(held)
  if holder == token then
    again(id, prior)
  end
end
grant_all()
if former ~= '' then
  step_down(former, s, rec, prefix .. id, k .. ':' .. f)
  call('HSET', claim, former, 's')
end
return { status, id, answer(0) }
