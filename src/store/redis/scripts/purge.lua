#!lua flags=allow-oom
-- Erases a batch that was kept long enough, in steps of a bounded number of chunks and events.
--
-- KEYS 1 partition
-- ARGV 1 at most so many of each  2 an instant that lies further ahead than this is wrong, ms
-- Returns {chunks and events erased, batches erased}

local id = due_range(P .. 'purge', now_ms(), tonumber(ARGV[2]), 1)[1]
if not id then return { 0, 0 } end
local key = batch_key(id)
local b = redis.call('HMGET', key, 'purged', 'top', 'account', 'claim')
local from, top = tonumber(b[1] or 0), tonumber(b[2] or 0)
local to = math.min(from + ARGV[1], top)
for n = from, to - 1 do
  -- Receipts can end a batch while its chunk is held: nobody else would forget that lease.
  local lease = read_lease(id, n)
  if lease and lease.standing == 'H' then
    redis.call('HDEL', key .. ':l', n)
    drop_lease(id, n, lease.token)
  end
  redis.call('UNLINK', chunk_key(id, 'r', n), chunk_key(id, 's', n), chunk_key(id, 'o', n),
    chunk_key(id, 'w', n), chunk_key(id, 't', n))
end
if to < top then
  redis.call('HSET', key, 'purged', to)
  return { to - from, 0 }
end
local events = redis.call('LPOP', key .. ':e', ARGV[1]) or {}
for _, ulid in ipairs(events) do
  redis.call('UNLINK', P .. 'e:' .. ulid, P .. 'e:' .. ulid .. ':a')
  redis.call('ZREM', P .. 'feed:' .. (b[3] or ''), ulid)
end
if #events == tonumber(ARGV[1]) then
  redis.call('HSET', key, 'purged', top)
  return { to - from + #events, 0 }
end
if b[4] and redis.call('GET', b[4]) == id then redis.call('DEL', b[4]) end
redis.call('ZREM', P .. 'list:' .. (b[3] or ''), id)
redis.call('ZREM', P .. 'feed:' .. (b[3] or ''), id)
redis.call('ZREM', P .. 'purge', id)
redis.call('UNLINK', key, key .. ':e', key .. ':f', key .. ':q', key .. ':l', P .. 'e:' .. id, P .. 'e:' .. id .. ':a')
return { to - from, 1 }
