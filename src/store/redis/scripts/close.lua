#!lua flags=allow-oom
-- Closes parked and returned chunks of a batch that was canceled or has expired.
--
-- KEYS 1 partition
-- ARGV 1 at most so many
-- Returns how many were closed

local id = redis.call('ZRANGE', P .. 'closing', 0, 0)[1]
if not id then return 0 end
local key = batch_key(id)
local chunks = redis.call('ZRANGE', key .. ':q', 0, ARGV[1] - 1)
local moved = {}
for _, n in ipairs(chunks) do
  redis.call('ZREM', key .. ':q', n)
  close_chunk(id, n, moved)
end
if redis.call('ZCARD', key .. ':q') == 0 then redis.call('ZREM', P .. 'closing', id) end
if #chunks > 0 then finish(id, key, moved, now_ms()) end
return #chunks
