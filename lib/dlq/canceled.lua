-- canceled.lua: whether a delivery is noted as canceled. Reads only.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     push key of the delivery's first generation
-- Returns 1 while the note holds, else 0.

local till = call('ZSCORE', canceled, ARGV[1])
return till and tonumber(till) > now_ms() and 1 or 0
