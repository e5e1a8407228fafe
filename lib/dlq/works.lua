-- works.lua: put before the scripts of who works on a sink's journal.

-- works tells whether the token holds the lease on it.
local function works(token)
  local l = call('HMGET', meta, 'journal_token', 'journal_until')
  return l[1] == token and tonumber(l[2]) > now_ms()
end
