#!lua flags=allow-oom
-- Puts batches with a parked chunk that is due back into the ring.
--
-- KEYS 1 partition
-- ARGV 1 at most so many
-- Returns how many came due

local due = due_range(P .. 'due', now_ms(), PARK_MAX_MS, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'due', id)
  if redis.call('HGET', key, 'state') == 'running' then enter(id, key) end
end
return #due
