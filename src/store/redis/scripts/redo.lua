#!lua flags=allow-oom
-- Carries out the oldest order to deliver ended events again, a bounded piece of it.
--
-- KEYS 1 partition
-- ARGV 1 deliver at most so many again  2 look at most at so many  3 how long to know an order that
--      was carried out, ms
-- Returns {events delivered again, events looked at}

local nonce = redis.call('ZRANGE', P .. 'replays', 0, 0)[1]
if not nonce then return { 0, 0 } end
local now = now_ms()
local order = P .. 'replay:' .. nonce
local o = redis.call('HMGET', order, 'account', 'state', 'since', 'host', 'at', 'place')
local since, at, most = tonumber(o[3]), tonumber(o[5]), tonumber(ARGV[1])
local feed = redis.call('ZRANGEBYSCORE', P .. 'feed:' .. o[1], '(' .. o[6], '+inf', 'WITHSCORES',
  'LIMIT', 0, ARGV[2])

-- A report of progress is out of date by now.
local function is_meant(e)
  local ended = tonumber(e[2])
  return e[1] == o[2] and e[5] ~= 'progress' and ended and ended >= since and ended <= at
    and (o[4] == '' or e[3] == o[4] or string.match(e[3], '^(.*):%d+$') == o[4])
end

local again, place, i = 0, o[6], 1
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
  redis.call('ZREM', P .. 'replays', nonce)
  redis.call('PEXPIRE', order, ARGV[3])
end
return { again, looked }
