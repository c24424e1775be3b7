#!lua flags=allow-oom
-- Drops uploads that were not renewed in time.
--
-- KEYS 1 partition
-- ARGV 1 upload lease, ms  2 at most so many
-- Returns how many were dropped

local now = now_ms()
local dead = due_range(P .. 'uploads', now, 2 * ARGV[1], tonumber(ARGV[2]))
for _, id in ipairs(dead) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'uploads', id)
  if redis.call('HGET', key, 'state') == 'receiving' then drop_upload(id, key, now) end
end
return #dead
