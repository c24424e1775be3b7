#!lua
-- Seals an upload: from here on the batch is accepted, and begins or waits for its time. A batch
-- without an open message completes in this very step.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 upload token  3 number of chunks  4 SHA-256 of the decoded body
--      5 how many recipients were left out
-- Returns 'sealed' | 'gone'

local id = ARGV[1]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'token', 'state', 'chunks', 'total', 'failed', 'provider',
  'tell_percent', 'tell_every', 'expire_ms')
if b[1] ~= ARGV[2] then return 'gone' end
if b[2] ~= 'receiving' then return redis.call('HEXISTS', key, 'hash') == 1 and 'sealed' or 'gone' end
if tonumber(b[3]) ~= tonumber(ARGV[3]) then return 'gone' end

local total, failed = tonumber(b[4]), tonumber(b[5])
local now = now_ms()
if b[7] then
  local step = math.max(1, math.ceil(total * b[7] / 100))
  redis.call('HSET', key, 'tell_step', step, 'tell_at', step)
elseif b[8] then
  redis.call('HSET', key, 'tell_at', now + b[8])
end
redis.call('HDEL', key, 'failed')
if ARGV[5] ~= '0' then redis.call('HSET', key, 'skipped', ARGV[5]) end
redis.call('HSET', key, 'state', 'queued', 'hash', ARGV[4], 'open', total,
  'behind', total - failed, 'cursor', 0, 'sending', 0)
redis.call('HINCRBY', P .. 'stats', b[6] .. ':open', total)
redis.call('ZREM', P .. 'uploads', id)
redis.call('ZADD', P .. 'watch', now, id)
if failed < total then
  begin(id, key, now)
  if b[9] then redis.call('ZADD', P .. 'expiry', b[9], id) end
end
finish(id, key, { [4] = failed }, now)
return 'sealed'
