#!lua
-- Changes what a batch that waits for its time is to do, and has it begin if that has come by this.
--
-- KEYS 1 partition
-- ARGV 1 account  2 batch  3 the spec that is to be there  4 the spec that takes its place
--      5 when to begin, ms, or ''  6 when to end what has not left, ms, or ''
-- Returns 'ok' | 'changed' (the spec is another one) | 'not found' | the state that does not allow it

local id = ARGV[2]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'account', 'state', 'spec')
if b[1] ~= ARGV[1] or b[2] == 'dropped' then return 'not found' end
if b[3] == ARGV[4] then return 'ok' end
if b[2] ~= 'scheduled' then return b[2] end
if b[3] ~= ARGV[3] then return 'changed' end

redis.call('HSET', key, 'spec', ARGV[4])
redis.call('HDEL', key, 'send_ms', 'expire_ms')
redis.call('ZREM', P .. 'expiry', id)
if ARGV[5] ~= '' then redis.call('HSET', key, 'send_ms', ARGV[5]) end
if ARGV[6] ~= '' then
  redis.call('HSET', key, 'expire_ms', ARGV[6])
  redis.call('ZADD', P .. 'expiry', ARGV[6], id)
end
begin(id, key, now_ms())
return 'ok'
