#!lua flags=allow-oom
-- Cancels a batch, at the same cost whatever its size: the cursor goes to the end, and the
-- messages behind it are counted at once; readers know them by `cut`, the first chunk closed so.
-- Parked chunks are closed by `close`, held ones when their worker lets go.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch
-- Returns 'ok' | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'cursor', 'chunks', 'behind')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[2] == 'canceled' then return 'ok' end
if b[2] == 'completed' or b[2] == 'receiving' then return b[2] end

local now = now_ms()
redis.call('HSET', key, 'state', 'canceled', 'cut', b[3], 'cut_ms', now, 'cursor', b[4], 'behind', 0)
leave(id, key)
redis.call('ZREM', P .. 'due', id)
redis.call('ZREM', P .. 'scheduled', id)
if redis.call('ZCARD', key .. ':q') > 0 then redis.call('ZADD', P .. 'closing', now, id) end
finish(id, key, { [6] = tonumber(b[5]) }, now)
ring('wish ' .. id)
return 'ok'
