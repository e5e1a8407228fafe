-- push.lua: stores dead letters.
--
-- KEYS  1..15 the queue (prelude.lua, which this does without: see scripts.go)
-- ARGV  1     most entries in the stream; 0: no bound; negative, where it refuses: none
--       2     '1': at the bound remove the oldest (trim), '0': refuse
--       3     most groups
--       4     most contents that are known of one push key
--       5     what is known of entries that do not tell their content:
--             <content's fingerprint>:<native id>, with a space in between
--       then for each item: push key, content's fingerprint, group, group's text, not
--       before ('0', 'never', 'expired': never, and marked as expired, or ms from now; then,
--       where it expires, a space and when, ms), item, address in the journal ('': none; '@':
--       none, though there is a journal)
-- Returns {removed, status, id, more, status, id, more, ...}; the status is
--   'stored'   more: when it is due (Unix ms), or ''
--   'exists'   the same content is there under the push key, and its time is not over, or
--              it expires at the same time; more: its not-before
--   'compare'  nothing was stored: the entry with this id may have the same content; more:
--              its item. Ask again with what it is
--   'full'     nothing was stored
--
-- The push key is looked up first, must lead to an entry that exists and was not delivered,
-- and is written last: a refused or discarded dead letter is never taken for a stored one.

-- By the names of prelude.lua.
local stream, meta, due, _, state, ids, groups, kept, expires, generations = unpack(KEYS)
local causes, history = KEYS[14], KEYS[15]
local call = redis.call
local max, trim, max_groups, max_contents = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4])
local known = ARGV[5]
local out = { 0 }
local make_room, find -- once there is need
local over, lacking -- addresses that are over, and ids that the journal lacks: none as yet
local more = {} -- groups of this call, and how many are not counted yet
local len = call('XLEN', stream)

-- count.lua

for i = 6, #ARGV, 7 do
  local k, f, g, group_text, n, item, j = unpack(ARGV, i, i + 6)
  local x = '' -- when it expires
  if n ~= '0' and n ~= 'never' then
    n, x = string.match(n, '^([^ ]*) ?(.*)$')
  end
  local under = call('HGET', ids, k)
  local status, id, detail, others, told
  if under then
    find = find or finder()
    status, id, detail, told = find(under, f, known, x)
    others = id
    if status == 'exists' and j ~= '' and j ~= '@' and j ~= told then
      over, lacking = over or {}, lacking or {}
      over[#over + 1] = j
      lacking[#lacking + 1] = id
    end
  end
  if not status and max ~= 0 and len >= max then
    if trim then
      count_in() -- make_room counts what it removes out
      make_room = make_room or trimmer()
      local removed = make_room(len - max + 1)
      out[1] = out[1] + removed
      len = len - removed
    end
    if not trim and len - call('ZCARD', kept) >= max then -- without the kept ones
      status, id, detail = 'full', '', ''
    else
      under = under and call('HGET', ids, k) -- what made room may have been under it
      if under then
        status, others = find(under, f, known, x)
      else
        others = nil
      end
    end
  end
  if not status then
    -- store.lua
  end
  out[#out + 1] = status
  out[#out + 1] = id
  out[#out + 1] = detail
end
count_in()
-- noted.lua
return out
