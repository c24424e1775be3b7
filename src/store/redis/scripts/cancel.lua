#!lua flags=allow-oom
-- Cancels a batch: see cut_off. One that has expired is closed already.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'closes')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[2] == 'canceled' then return 'ok' end
if b[2] == 'completed' or b[2] == 'receiving' then return b[2] end

redis.call('HSET', key, 'state', 'canceled')
if not b[3] then cut_off(id, key, 6, now_ms()) end
return 'ok'
