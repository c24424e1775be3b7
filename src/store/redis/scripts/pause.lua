#!lua flags=allow-oom
-- Pauses a batch: it leaves the ring, and what comes back stays out of it. One that waits for its
-- time waits no more.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[2] == 'paused' then return 'ok' end
if b[2] ~= 'scheduled' and b[2] ~= 'queued' and b[2] ~= 'running' then return b[2] end

redis.call('HSET', key, 'state', 'paused')
leave(id, key)
redis.call('ZREM', P .. 'due', id)
redis.call('ZREM', P .. 'scheduled', id)
ring('wish ' .. id)
return 'ok'
