#!lua flags=allow-oom
-- Ends the wait for receipts of batches that were handed over long enough ago: what no receipt came for
-- has been sent, and that is all. Costs the same for any number of messages: their bytes stay, and readers
-- show the one as the other. A batch with open messages (a repair found some) does not wait yet: it begins
-- to once they are handed over.
--
-- KEYS 1 partition
-- ARGV 1 at most so many  2 the longest that receipts are waited for, ms
-- Returns how many batches' waits ended

-- The longest wait and a clock that was stepped back a little are no reason to end it.
local STEP_BACK_MS = 86400000

local now = now_ms()
local due = due_range(P .. 'receipts', now, ARGV[2] + STEP_BACK_MS, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  local key = batch_key(id)
  redis.call('ZREM', P .. 'receipts', id)
  local b = redis.call('HMGET', key, 'n8', 'open')
  local awaiting, open = tonumber(b[1] or 0), tonumber(b[2] or 0)
  if awaiting > 0 and open <= 0 then finish(id, key, { [1] = awaiting, [8] = -awaiting }, now) end
end
return #due
