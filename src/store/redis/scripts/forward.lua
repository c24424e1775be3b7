#!lua flags=allow-oom
-- Puts batches back into the ring that have rested, or have a parked chunk that is due.
--
-- KEYS 1 partition
-- ARGV 1 at most so many
-- Returns how many came due

local due = due_range(P .. 'due', now_ms(), PARK_MAX_MS, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'due', id)
  local state = redis.call('HGET', key, 'state')
  if state == 'running' or state == 'queued' then enter(id, key) end
end
return #due
