#!lua flags=allow-oom
-- Drops an upload that is not sealed: its key is free at once, its space is given back by purge.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 upload token
-- Returns 1 if it was dropped by this call, else 0

local id = ARGV[1]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'token', 'state')
if b[1] ~= ARGV[2] or b[2] ~= 'receiving' then return 0 end
drop_upload(id, key, now_ms())
return 1
