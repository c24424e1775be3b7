#!lua flags=allow-oom
-- Carries out an order to deliver ended events again, a bounded piece of it. Accounts take turns, so
-- that a big order holds up nobody else's; the orders of one account come one after the other.
--
-- KEYS 1 partition
-- ARGV 1 deliver at most so many again  2 look at most at so many  3 how long to know an order that
--      was carried out, ms
-- Returns {events delivered again, events looked at}

local account = redis.call('ZRANGE', P .. 'replaying', 0, 0)[1]
if not account then return { 0, 0 } end
local orders = P .. 'orders:' .. account
local nonce = redis.call('LINDEX', orders, 0)
local now = now_ms()
local order = P .. 'replay:' .. nonce
local o = redis.call('HMGET', order, 'state', 'since', 'host', 'at', 'place')
local since, at, most = tonumber(o[2]), tonumber(o[4]), tonumber(ARGV[1])
local feed = redis.call('ZRANGEBYSCORE', P .. 'feed:' .. account, '(' .. o[5], '+inf', 'WITHSCORES',
  'LIMIT', 0, ARGV[2])

-- A report of progress is out of date by now.
local function is_meant(e)
  local ended = tonumber(e[2])
  return e[1] == o[1] and e[5] ~= 'progress' and ended and ended >= since and ended <= at
    and (o[3] == '' or e[3] == o[3] or string.match(e[3], '^(.*):%d+$') == o[3])
end

local again, place, i = 0, o[5], 1
while i < #feed and again < most do
  local ulid = feed[i]
  local e = redis.call('HMGET', P .. 'e:' .. ulid, 'state', 'ended', 'host', 'batch', 'kind')
  if is_meant(e) and redis.call('HEXISTS', batch_key(e[4]), 'purged') == 0 then
    deliver_again(ulid, e[4], batch_key(e[4]), now)
    again = again + 1
  end
  place, i = feed[i + 1], i + 2
end
redis.call('HSET', order, 'place', place)
local looked = (i - 1) / 2
if looked < tonumber(ARGV[2]) and again < most then
  -- The end. The order is known for a while, so that a repeat of it changes nothing.
  redis.call('LPOP', orders)
  redis.call('PEXPIRE', order, ARGV[3])
end
if redis.call('EXISTS', orders) == 1 then
  redis.call('ZADD', P .. 'replaying', redis.call('INCR', P .. 'turn'), account)
else
  redis.call('ZREM', P .. 'replaying', account)
end
return { again, looked }
