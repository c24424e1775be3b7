#!lua
-- Opens a batch for its upload, and claims its idempotency key in the same step.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 upload token  3 upload lease, ms  4 account  5 provider
--      6 idempotency key, '' for none  7 spec  8 retention, ms  9 reference
--      10 the callback's host, '' if none is wanted  11 what else is told: 'd', 'f', 'p' of
--      dispatched, failures, progress  12 percent between reports  13 ms between reports, or ''
--      14 when to begin, ms, or ''  15 when to end what has not left, ms, or ''
--      16 priority: 1 high, 2 normal, 3 low
--      17 at most so many batches of the account under way here, this one included, or ''
--      18 the interval of its own rate, ns, or ''  19 its quiet hours, or '': start and end, ms of the
--      day, then offsets of local time: from, ms, and how much, ms
--      20 1 if it is sent at most once, or ''  21 how long its receipts are waited for, ms
-- Returns {'new'} | {'replayed', batch, body hash} | {'under way'} | {'too many'}

local id, token = ARGV[1], ARGV[2]
local key = batch_key(id)
local now = now_ms()
local claim = ARGV[6] ~= '' and (P .. 'i:' .. ARGV[4] .. ':' .. ARGV[6])

if redis.call('HGET', key, 'token') == token then return { 'new' } end
if claim then
  local holder = redis.call('GET', claim)
  if holder then
    local b = redis.call('HMGET', batch_key(holder), 'hash', 'token')
    if b[1] then return { 'replayed', holder, b[1] } end
    if b[2] then return { 'under way' } end
  end
end
local unfinished = P .. 'unfinished:' .. ARGV[4]
if ARGV[17] ~= '' and redis.call('SCARD', unfinished) >= tonumber(ARGV[17]) then
  return { 'too many' }
end

-- This very upload may have been dropped between a lost reply and this repeat.
redis.call('ZREM', P .. 'purge', id)
redis.call('HSET', key, 'token', token, 'state', 'receiving', 'account', ARGV[4],
  'provider', ARGV[5], 'spec', ARGV[7], 'keep_ms', ARGV[8], 'total', 0, 'failed', 0,
  'chunks', 0, 'top', 0, 'reference', ARGV[9], 'priority', ARGV[16],
  'receipt_ms', ARGV[21])
if ARGV[10] ~= '' then
  redis.call('HSET', key, 'callback', 'pending', 'host', ARGV[10])
  if ARGV[11] ~= '' then redis.call('HSET', key, 'wants', ARGV[11]) end
  if ARGV[12] ~= '' then redis.call('HSET', key, 'tell_percent', ARGV[12]) end
  if ARGV[13] ~= '' then redis.call('HSET', key, 'tell_every', ARGV[13]) end
end
if ARGV[14] ~= '' then redis.call('HSET', key, 'send_ms', ARGV[14]) end
if ARGV[15] ~= '' then redis.call('HSET', key, 'expire_ms', ARGV[15]) end
if ARGV[18] ~= '' then redis.call('HSET', key, 'interval', ARGV[18]) end
if ARGV[19] ~= '' then redis.call('HSET', key, 'quiet', ARGV[19]) end
if ARGV[20] ~= '' then redis.call('HSET', key, 'once', 1) end
if claim then
  redis.call('SET', claim, id)
  redis.call('HSET', key, 'claim', claim)
end
redis.call('SADD', unfinished, id)
redis.call('ZADD', P .. 'uploads', now + ARGV[3], id)
redis.call('ZADD', P .. 'list:' .. ARGV[4], 0, id)
return { 'new' }
