#!lua
-- Adds chunks to an upload, each at most once, and renews the upload's lease.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 upload token  3 upload lease, ms
--      then for each chunk: number, first index (4 bytes, big end first), states, recipients, log
-- Returns 'ok' | 'gone'

local id = ARGV[1]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'token', 'state', 'top')
if b[1] ~= ARGV[2] or b[2] ~= 'receiving' then return 'gone' end

local chunks, total, failed, top = 0, 0, 0, tonumber(b[3])
for i = 4, #ARGV, 5 do
  local n, states = ARGV[i], ARGV[i + 2]
  if redis.call('SET', chunk_key(id, 's', n), states, 'NX') then
    redis.call('SETRANGE', key .. ':f', n * 4, ARGV[i + 1])
    redis.call('SET', chunk_key(id, 'r', n), ARGV[i + 3])
    if ARGV[i + 4] ~= '' then redis.call('SET', chunk_key(id, 'o', n), ARGV[i + 4]) end
    chunks = chunks + 1
    total = total + #states
    failed = failed + #states - open_in(states)
    top = math.max(top, n + 1)
  end
end
if chunks > 0 then
  redis.call('HINCRBY', key, 'chunks', chunks)
  redis.call('HINCRBY', key, 'total', total)
  redis.call('HINCRBY', key, 'failed', failed)
  redis.call('HSET', key, 'top', top)
end
redis.call('ZADD', P .. 'uploads', 'XX', now_ms() + ARGV[3], id)
return 'ok'
