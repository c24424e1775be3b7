#!lua flags=allow-oom
-- Resumes a paused batch: back into the ring, where claim finds what is due, or to wait for its
-- time.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'started_ms')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[2] == 'scheduled' or b[2] == 'queued' or b[2] == 'running' then return 'ok' end
if b[2] ~= 'paused' then return b[2] end

if b[3] then
  redis.call('HSET', key, 'state', 'running')
  enter(id, key)
else
  begin(id, key, now_ms())
end
ring('wish ' .. id)
return 'ok'
