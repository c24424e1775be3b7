#!lua flags=allow-oom
-- Puts right what an audit counted of a batch, unless it has moved since: its counts; chunks that nobody
-- has, which can be claimed again or are closed; its place in the ring, or among those that wait for
-- receipts; its end and its event.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 to 11 what is to be noted of it: open, sending, n1 … n8
--      12 to 20 what was counted: sending, n1 … n8  then the numbers of chunks that nobody has
-- Returns 'repaired' | 'moved'

local id = ARGV[1]
local key = batch_key(id)
local b = redis.call('HMGET', key, 'open', 'sending', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n8')
for i = 1, 10 do
  if tonumber(b[i] or 0) ~= tonumber(ARGV[i + 1]) then return 'moved' end
end

local now = now_ms()
local c = redis.call('HMGET', key, 'provider', 'total', 'state', 'closes', 'completed_ms', 'callback',
  'wants', 'cursor', 'chunks')
local ended = 0
for byte = 1, 8 do
  local counted = tonumber(ARGV[12 + byte])
  redis.call('HSET', key, 'n' .. byte, counted)
  redis.call('HINCRBY', P .. 'stats', c[1] .. ':' .. byte, counted - tonumber(b[byte + 2] or 0))
  ended = ended + counted
end
local open = tonumber(c[2]) - ended
redis.call('HSET', key, 'open', open)
redis.call('HINCRBY', P .. 'stats', c[1] .. ':open', open - tonumber(b[1]))
sending(key, tonumber(ARGV[12]) - tonumber(b[2] or 0))

local moved = {}
for i = 21, #ARGV do
  local n = ARGV[i]
  local lease = read_lease(id, n)
  if not (lease and lease.standing == 'H') and not redis.call('ZSCORE', key .. ':q', n) then
    if c[4] then close_chunk(id, n, moved) else redis.call('ZADD', key .. ':q', now, n) end
  end
end
-- It also has receipts waited for.
if not finish(id, key, moved, now) then
  if c[5] then
    if c[6] == 'pending' and redis.call('EXISTS', P .. 'e:' .. id) == 0 then
      tell_end(id, key, c[7] or '', now)
    end
  elseif c[4] then
    if redis.call('ZCARD', key .. ':q') > 0 then redis.call('ZADD', P .. 'closing', now, id) end
  elseif c[3] == 'queued' or c[3] == 'running' then
    if redis.call('ZCARD', key .. ':q') > 0 or tonumber(c[8]) < tonumber(c[9]) then enter(id, key) end
  end
end
return 'repaired'
