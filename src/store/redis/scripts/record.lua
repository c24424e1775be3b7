#!lua flags=allow-oom
-- Records the end of an attempt at a callback, and what follows from it.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 attempt number  3 what it came to  4 'again' | 'delivered' | 'exhausted' | 'gone'
--      5 delay until the next attempt, ms
-- Returns 1 if it is recorded, 0 if the attempt has lost its lease

local id, number = ARGV[1], ARGV[2]
local key, event = batch_key(id), P .. 'e:' .. id
local e = redis.call('HMGET', event, 'number', 'recorded')
if e[1] ~= number then return 0 end
if e[2] == number then return 1 end

local now = now_ms()
local last = redis.call('LINDEX', event .. ':a', -1)
local begun = last and string.match(last, '^(' .. number .. ' %d+ )')
if begun then redis.call('LSET', event .. ':a', -1, begun .. ARGV[3]) end
redis.call('HSET', event, 'recorded', number)
if ARGV[4] == 'again' then
  redis.call('ZADD', P .. 'events', 'XX', now + ARGV[5], id)
else
  redis.call('ZREM', P .. 'events', id)
  redis.call('HSET', key, 'callback', ARGV[4])
  redis.call('HINCRBY', P .. 'stats', 'callback:' .. ARGV[4], 1)
  redis.call('ZADD', P .. 'purge', now + (redis.call('HGET', key, 'keep_ms') or 0), id)
end
return 1
