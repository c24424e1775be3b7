#!lua flags=allow-oom
-- Closes batches whose messages may leave no more: see cut_off.
--
-- KEYS 1 partition
-- ARGV 1 at most so many
-- Returns how many there were

local now = now_ms()
local due = due_range(P .. 'expiry', now, SCHEDULE_MAX_MS, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'expiry', id)
  local b = redis.call('HMGET', key, 'completed_ms', 'closes')
  if not b[1] and not b[2] then cut_off(id, key, 5, now) end
end
return #due
