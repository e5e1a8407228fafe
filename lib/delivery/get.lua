-- get.lua: returns the record, JSON, or ''. Reads only.
--
-- KEYS, ARGV  as in record.lua

local _, text = find()
return text or ''
