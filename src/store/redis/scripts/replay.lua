#!lua flags=allow-oom
-- Has a batch's completion event delivered again.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | 'not over' | 'no callback'

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'callback', 'completed_ms', 'purged')
if b[1] ~= ARGV[1] or b[2] == 'dropped' or b[5] then return 'not found' end
if not b[3] then return 'no callback' end
if not b[4] then return 'not over' end
deliver_again(id, id, key, now_ms())
return 'ok'
