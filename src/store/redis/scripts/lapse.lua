#!lua flags=allow-oom
-- Ends the wait for receipts of batches that were handed over long enough ago: what no receipt came for
-- has been sent, and that is all. Costs the same for any number of messages: their bytes stay, and readers
-- show the one as the other.
--
-- KEYS 1 partition
-- ARGV 1 at most so many  2 an instant that lies further ahead than this is wrong, ms
-- Returns how many batches' waits ended

local now = now_ms()
local due = due_range(P .. 'receipts', now, tonumber(ARGV[2]), tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'receipts', id)
  local awaiting = tonumber(redis.call('HGET', key, 'n8') or 0)
  if awaiting > 0 then finish(id, key, { [1] = awaiting, [8] = -awaiting }, now) end
end
return #due
