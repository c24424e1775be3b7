#!lua
-- Counts a batch's recipients in its account's day, once, if there is room for all of them. The day
-- ends with its key, at midnight UTC.
--
-- KEYS 1 the account's day
-- ARGV 1 batch, '' to look only  2 its recipients  3 the most recipients a day
-- Returns {1 if they are counted, else 0; the recipients counted in all; ms until the day ends}

local day, id = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = (math.floor(now / 86400000) + 1) * 86400000
local count = tonumber(redis.call('HGET', day, 'recipients') or 0)
if id == '' then return { 0, count, ends - now } end

local known = redis.call('HEXISTS', day, id) == 1
if not known then
  if count + ARGV[2] > tonumber(ARGV[3]) then return { 0, count, ends - now } end
  count = redis.call('HINCRBY', day, 'recipients', ARGV[2])
  redis.call('HSET', day, id, ARGV[2])
  redis.call('PEXPIREAT', day, ends)
end
return { 1, count, ends - now }
