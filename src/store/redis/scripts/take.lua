#!lua flags=allow-oom
-- Takes events that are due, host by host, and writes down that an attempt of each begins. An event
-- whose lease ran out is handed out again as it is: its attempt is to be recorded as interrupted.
--
-- KEYS 1 partition
-- ARGV 1 at most so many  2 lease, ms  3 the longest delay between attempts, ms
--      4 the longest lease, ms  5 at most so many at once to one host
--      6 so many silences in a row leave a host alone  7 for so long, ms
-- Returns {event, batch, kind, about, sequence, created at, attempt number, attempts since
--          the last replay, ms since then, 1 if its lease had run out, body or '', …}

local limit, lease, delay_max, lease_max = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local places_max, silences_max, alone_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now = now_ms()
local taken, count = {}, 0

local function hand_out(ulid, host, interrupted)
  local event = P .. 'e:' .. ulid
  local number = redis.call('HINCRBY', event, 'number', 1 - interrupted)
  if interrupted == 0 then
    redis.call('RPUSH', event .. ':a', string.format('%d %.0f ', number, now))
    redis.call('LTRIM', event .. ':a', -20, -1)
  end
  redis.call('ZADD', open_key(host), now + lease, ulid)
  local e = redis.call('HMGET', event, 'batch', 'kind', 'about', 'sequence', 'at', 'base', 'since', 'body')
  for _, value in ipairs({ ulid, e[1], e[2], e[3], e[4], e[5], number, number - e[6],
    math.max(0, now - e[7]), interrupted, e[8] or '' }) do
    taken[#taken + 1] = value
  end
  count = count + 1
end

-- How many events a host may have at once, and from when on: one, after its time alone; 0 for at any
-- time.
local function places_of(host)
  local h = redis.call('HMGET', P .. 'host:' .. host, 'silences', 'until')
  if tonumber(h[1] or 0) < silences_max then return places_max, 0 end
  local from = tonumber(h[2] or now)
  if from > now + alone_ms then from = now end
  return 1, from
end

local function take_of(host)
  local open, wait = open_key(host), wait_key(host)
  for _, ulid in ipairs(due_range(open, now, lease_max, limit - count)) do
    hand_out(ulid, host, 1)
  end
  local places, from = places_of(host)
  local free = math.min(places - redis.call('ZCARD', open), limit - count)
  if free > 0 and from <= now then
    for _, ulid in ipairs(due_range(wait, now, delay_max, free)) do
      redis.call('ZREM', wait, ulid)
      hand_out(ulid, host, 0)
    end
  end
  -- When to look again: a lease ends, or, while a place is free, an event comes due.
  local next
  local ending = redis.call('ZRANGE', open, 0, 0, 'WITHSCORES')[2]
  if ending then next = math.min(ending, now + lease) end
  if redis.call('ZCARD', open) < places then
    local due = redis.call('ZRANGE', wait, 0, 0, 'WITHSCORES')[2]
    if due then next = math.min(next or math.huge, math.max(due, from)) end
  end
  if next then redis.call('ZADD', P .. 'hosts', next, host) else forget_idle(host) end
end

for _, host in ipairs(due_range(P .. 'hosts', now, delay_max, limit)) do
  if count >= limit then break end
  take_of(host)
end
return taken
