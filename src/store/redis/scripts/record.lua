#!lua flags=allow-oom
-- Records the end of an attempt at a callback, and what follows from it.
--
-- KEYS 1 partition
-- ARGV 1 event  2 attempt number  3 what it came to
--      4 'again' | 'delivered' | 'exhausted' | 'gone' | 'skipped'  5 delay until the next attempt, ms
--      6 what it says of the host: 'answered' | 'silent' | ''
--      7 so many silences in a row leave a host alone  8 for so long, ms
-- Returns 'lost' | 'kept' | 'left alone' | 'back'

local ulid, number, word = ARGV[1], ARGV[2], ARGV[4]
local event = P .. 'e:' .. ulid
local e = redis.call('HMGET', event, 'number', 'recorded', 'batch', 'host')
if e[1] ~= number then return 'lost' end
if e[2] == number then return 'kept' end

local now = now_ms()
local id, host = e[3], e[4]
local key = batch_key(id)

-- What the attempt says of its host.
local function judge_host()
  local record = P .. 'host:' .. host
  if ARGV[6] == 'silent' then
    local silences, enough = redis.call('HINCRBY', record, 'silences', 1), tonumber(ARGV[7])
    if silences < enough then return 'kept' end
    redis.call('HSET', record, 'until', now + ARGV[8])
    return silences == enough and 'left alone' or 'kept'
  elseif ARGV[6] == 'answered' then
    local silences = tonumber(redis.call('HGET', record, 'silences') or 0)
    if silences > 0 then redis.call('DEL', record) end
    return silences >= tonumber(ARGV[7]) and 'back' or 'kept'
  end
  return 'kept'
end

local last = redis.call('LINDEX', event .. ':a', -1)
local begun = last and string.match(last, '^(' .. number .. ' %d+ )')
if begun then redis.call('LSET', event .. ':a', -1, begun .. ARGV[3]) end
redis.call('HSET', event, 'recorded', number)
redis.call('ZREM', open_key(host), ulid)
if word == 'again' then
  redis.call('ZADD', wait_key(host), now + ARGV[5], ulid)
else
  end_event(ulid, id, key, word, now)
end
if redis.call('HGET', key, 'progress') == ulid then
  redis.call('HDEL', key, 'progress')
  if redis.call('HEXISTS', key, 'completed_ms') == 1 then
    -- The completion waited for this.
    redis.call('ZADD', wait_key(host), 'XX', at_once(now), id)
  end
end
local sign = judge_host()
-- A place is free: whoever waits may have it.
local due = redis.call('ZRANGE', wait_key(host), 0, 0, 'WITHSCORES')[2]
if due then
  look_at(host, due)
  if tonumber(due) <= now then ring('event') end
end
forget_idle(host)
return sign
