-- pause.lua: stops or resumes the schedule of a sink.
--
-- KEYS  1..15 the queue (prelude.lua)
-- ARGV  1     '1' stops, '0' resumes
-- Returns 1.

free_first()
if ARGV[1] == '1' then
  call('HSET', meta, 'paused', '1')
else
  call('HDEL', meta, 'paused')
end
return 1
