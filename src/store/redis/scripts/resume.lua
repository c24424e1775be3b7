#!lua flags=allow-oom
-- Resumes a paused batch: back into the ring, where claim finds what is due.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'started_ms')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[2] == 'queued' or b[2] == 'running' then return 'ok' end
if b[2] ~= 'paused' then return b[2] end

redis.call('HSET', key, 'state', b[3] and 'running' or 'queued')
enter(id, key)
ring('wish ' .. id)
return 'ok'
