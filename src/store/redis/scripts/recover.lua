#!lua flags=allow-oom
-- Takes back chunks whose leases ran out: they can be claimed again at once, or are closed if
-- their batch was canceled or has expired meanwhile.
--
-- KEYS 1 partition
-- ARGV 1 lease, ms  2 at most so many
-- Returns {leases that had run out, chunks closed}

local now = now_ms()
local closed = 0
-- The longest lease that any process asked for: those with a shorter one must not rob it.
local longest = math.max(ARGV[1], redis.call('HGET', P .. 'stats', 'lease_ms') or 0)
local late = due_range(P .. 'leases', now, longest, tonumber(ARGV[2]))
for _, member in ipairs(late) do
  local id, n = string.match(member, '^(.*):(%d+)$')
  local key = batch_key(id)
  local lease = read_lease(id, n)
  redis.call('ZREM', P .. 'leases', member)
  if lease and lease.standing == 'H' then
    redis.call('HDEL', key .. ':l', n)
    note_loss(id, n)
    drop_lease(id, n, lease.token)
    redis.call('HINCRBY', P .. 'stats', 'leases_lost', 1)
    sending(key, -open_in(redis.call('GET', chunk_key(id, 's', n))))
    local b = redis.call('HMGET', key, 'state', 'closes')
    local moved = {}
    if b[2] then
      close_chunk(id, n, moved)
      closed = closed + 1
    else
      redis.call('ZADD', key .. ':q', now, n)
      if b[1] == 'running' then enter(id, key) end
    end
    finish(id, key, moved, now)
  end
end
return { #late, closed }
