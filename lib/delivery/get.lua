-- get.lua: returns the record, JSON, or ''. Reads only.
--
-- KEYS, ARGV  as in record.lua

local _, text, needed = find()
return needed or text or ''
