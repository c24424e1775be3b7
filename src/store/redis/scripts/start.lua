#!lua flags=allow-oom
-- Puts batches whose time has come into their rings.
--
-- KEYS 1 partition
-- ARGV 1 at most so many
-- Returns how many there were

local due = due_range(P .. 'scheduled', now_ms(), SCHEDULE_MAX_MS, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'scheduled', id)
  if redis.call('HGET', key, 'state') == 'scheduled' then
    redis.call('HSET', key, 'state', 'queued')
    enter(id, key)
  end
end
return #due
