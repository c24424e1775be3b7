#!lua flags=allow-oom
-- Looks after batches that were not looked after for a while. One that could be claimed and is in no ring
-- is put back; one with chunks to close that nobody closes is closed on; one that waits for receipts, and
-- is not among those that do, waits again; and who stands still is told of.
--
-- KEYS 1 partition
-- ARGV 1 how long between looks at one batch, ms  2 who has not moved for so long stands still, ms
--      3 at most so many
-- Returns {batch, 'requeued' | 'stands', open messages, since, ms, …}

local now, every, still = now_ms(), tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {}
local function tell(id, word, open, since)
  for _, value in ipairs({ id, word, open, since }) do found[#found + 1] = value end
end

local due = redis.call('ZRANGEBYSCORE', P .. 'watch', '-inf', now - every, 'LIMIT', 0, ARGV[3])
if #due == 0 then
  due = redis.call('ZRANGEBYSCORE', P .. 'watch', '(' .. (now + every), '+inf', 'LIMIT', 0, ARGV[3])
end
for _, id in ipairs(due) do
  local key = batch_key(id)
  local b = redis.call('HMGET', key, 'state', 'closes', 'sending', 'cursor', 'chunks', 'open',
    'seen_open', 'seen_ms', 'completed_ms', 'provider', 'account', 'priority', 'n8', 'wants')
  if not b[1] or b[9] then
    redis.call('ZREM', P .. 'watch', id)
  else
    redis.call('ZADD', P .. 'watch', now, id)
    local requeued = false
    local parked = redis.call('ZCARD', key .. ':q')
    local goes = not b[2] and (b[1] == 'queued' or b[1] == 'running')
    if b[2] then
      if parked > 0 and not redis.call('ZSCORE', P .. 'closing', id) then
        redis.call('ZADD', P .. 'closing', now, id)
        requeued = true
      end
    elseif goes and tonumber(b[3]) == 0 and (parked > 0 or tonumber(b[4]) < tonumber(b[5]))
      and not redis.call('ZSCORE', ring_key(b[10], b[12]) .. ':' .. b[11], id)
      and not redis.call('ZSCORE', P .. 'due', id) then
      enter(id, key)
      requeued = true
    end
    if requeued then tell(id, 'requeued', b[6], now) end
    local rests = redis.call('ZSCORE', P .. 'due', id)
    local since = tonumber(b[8])
    local handed_over = tonumber(b[6]) == 0
    if handed_over and tonumber(b[13] or 0) > 0 then await_receipts(id, key, b[14] or '', now) end
    if b[6] ~= b[7] or requeued or handed_over or not goes or rests or since > now then
      redis.call('HSET', key, 'seen_open', b[6], 'seen_ms', now)
    elseif now - since >= still then
      redis.call('HSET', key, 'seen_ms', now)
      tell(id, 'stands', b[6], since)
    end
  end
end
return found
