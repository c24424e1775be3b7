#!lua flags=allow-oom
-- Has a batch that is over erased, without waiting for the time that it would be kept: now, or once
-- nothing is left to be told of it. purge does it.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'completed_ms', 'purged')
if b[1] ~= ARGV[1] or b[2] == 'dropped' or b[4] then return 'not found' end
if not b[3] then return b[2] end

redis.call('HSET', key, 'keep_ms', 0)
keep_on(id, key, now_ms())
return 'ok'
