-- Events: how they come about, where they wait, and how they end. Put
-- behind lib.lua.
--
-- An event lies under a ULID: the completion under its batch's, any other under one that is counted
-- up from there. What holds:
--   * a pending event is in exactly one set of its host: in `wait` by when its next attempt is due,
--     or in `open` by when its lease ends; an ended one is in neither;
--   * one that has no delay to wait for is due long since, whatever the clock is set to: see at_once;
--   * `hosts` has a host no later than there is something to take of it: too early costs a look;
--   * a batch's `unsent` is the number of its pending events. Once the batch is over and it is 0,
--     the time that the batch is kept begins, and a replay stops it.

-- The ULID of another event of a batch: `n` is added above the two characters of the partition.
local function further(id, n)
  local digits, at = '0123456789ABCDEFGHJKMNPQRSTVWXYZ', 24
  while n > 0 do
    local sum = string.find(digits, string.sub(id, at, at), 1, true) - 1 + n
    local digit = sum % 32 + 1
    id = string.sub(id, 1, at - 1) .. string.sub(digits, digit, digit) .. string.sub(id, at + 1)
    n, at = math.floor(sum / 32), at - 1
  end
  return id
end

local function wait_key(host) return P .. 'wait:' .. host end
local function open_key(host) return P .. 'open:' .. host end

-- When an event is due that waits for nothing: in the order of these instants, but before any that a
-- clock can show, so that one that is set back holds up none of them.
local function at_once(now) return now / 1000000 end

-- Has notifiers look at a host at this instant, unless they do so earlier.
local function look_at(host, at)
  redis.call('ZADD', P .. 'hosts', 'LT', at, host)
end

-- Forgets a host of which nothing is pending.
local function forget_idle(host)
  if redis.call('EXISTS', wait_key(host), open_key(host)) == 0 then
    redis.call('ZREM', P .. 'hosts', host)
    redis.call('DEL', P .. 'host:' .. host)
  end
end

-- The next place in the order of all events: an instant in µs that was never given before.
local function next_place(now)
  local last = tonumber(redis.call('HGET', P .. 'stats', 'place') or 0)
  local place = math.max(now * 1000, last + 1)
  redis.call('HSET', P .. 'stats', 'place', place)
  return place
end

-- Creates event `n` of a batch; 0 is the completion. Gives its ULID.
local function add_event(id, key, n, kind, about, now)
  local b = redis.call('HMGET', key, 'account', 'host')
  local ulid, host = further(id, n), b[2]
  redis.call('HSET', P .. 'e:' .. ulid, 'batch', id, 'host', host, 'kind', kind, 'about', about,
    'sequence', redis.call('HINCRBY', key, 'events', 1), 'at', now, 'since', now, 'number', 0,
    'base', 0, 'state', 'pending')
  redis.call('HINCRBY', key, 'unsent', 1)
  if n > 0 then redis.call('RPUSH', key .. ':e', ulid) end
  redis.call('ZADD', P .. 'feed:' .. b[1], next_place(now), ulid)
  redis.call('HINCRBY', P .. 'stats', 'callback:pending', 1)
  redis.call('ZADD', wait_key(host), at_once(now), ulid)
  look_at(host, at_once(now))
  ring('event')
  return ulid
end

-- A batch that is over, and of which nothing is left to be told, is kept from now on for its time.
local function keep_on(id, key, now)
  local b = redis.call('HMGET', key, 'completed_ms', 'unsent', 'keep_ms')
  if b[1] and tonumber(b[2] or 0) <= 0 then redis.call('ZADD', P .. 'purge', now + b[3], id) end
end

-- Ends an event in this state. The caller has taken it out of its host's sets.
local function end_event(ulid, id, key, word, now)
  redis.call('HSET', P .. 'e:' .. ulid, 'state', word, 'ended', now)
  redis.call('HINCRBY', P .. 'stats', 'callback:pending', -1)
  redis.call('HINCRBY', P .. 'stats', 'callback:' .. word, 1)
  -- A batch that the store lost is not to come back as a number.
  if redis.call('EXISTS', key) == 0 then return end
  if ulid == id then redis.call('HSET', key, 'callback', word) end
  redis.call('HINCRBY', key, 'unsent', -1)
  keep_on(id, key, now)
end

-- Has an event delivered now, and from the beginning of the schedule. Nothing changes while an
-- attempt is under way. A host that was left alone is tried at once.
local function deliver_again(ulid, id, key, now)
  local event = P .. 'e:' .. ulid
  local e = redis.call('HMGET', event, 'host', 'state', 'number', 'base')
  if redis.call('ZSCORE', open_key(e[1]), ulid) then return end
  if e[2] ~= 'pending' then
    redis.call('HSET', event, 'state', 'pending')
    redis.call('HDEL', event, 'ended')
    redis.call('HINCRBY', key, 'unsent', 1)
    redis.call('ZREM', P .. 'purge', id)
    redis.call('HINCRBY', P .. 'stats', 'callback:pending', 1)
    if ulid == id then redis.call('HSET', key, 'callback', 'pending') end
  end
  redis.call('HSET', event, 'base', e[3], 'since', now)
  -- One that was not tried yet comes as soon as it may: a completion can wait for a report.
  if e[2] ~= 'pending' or e[3] ~= e[4] then
    redis.call('ZADD', wait_key(e[1]), at_once(now), ulid)
  end
  redis.call('HDEL', P .. 'host:' .. e[1], 'until')
  look_at(e[1], at_once(now))
  ring('event')
end

-- A batch's counts as an event keeps them: sending, then each final state. What waits for a receipt has
-- been sent.
local function counts_of(key)
  local counts = redis.call('HMGET', key, 'sending', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7')
  for i = 1, 8 do counts[i] = counts[i] or 0 end
  counts[2] = counts[2] + (redis.call('HGET', key, 'n8') or 0)
  return table.concat(counts, ' ')
end

-- Tells of a batch's progress if it is time to; not while the last report is on its way. `open` messages
-- are not final.
local function tell_progress(id, key, open, now)
  local b = redis.call('HMGET', key, 'total', 'tell_at', 'tell_step', 'tell_every', 'progress')
  local at = tonumber(b[2])
  if b[3] then
    local ended, step = b[1] - open, tonumber(b[3])
    if ended < at then return end
    redis.call('HSET', key, 'tell_at', (math.floor(ended / step) + 1) * step)
  else
    if now < at and at <= now + b[4] then return end
    redis.call('HSET', key, 'tell_at', now + b[4])
  end
  if b[5] then return end
  local n = 1 + redis.call('HINCRBY', key, 'reports', 1)
  redis.call('HSET', key, 'progress', add_event(id, key, n, 'progress', counts_of(key), now))
end

-- Nothing tells of progress after the completion. A report that waits is given up; for one that is
-- on its way the completion waits, at most until its lease ends.
local function end_progress(id, key, now)
  local b = redis.call('HMGET', key, 'progress', 'host')
  if not b[1] then return end
  local lease = redis.call('ZSCORE', open_key(b[2]), b[1])
  if lease then
    redis.call('ZADD', wait_key(b[2]), 'XX', lease, id)
  else
    redis.call('ZREM', wait_key(b[2]), b[1])
    redis.call('HDEL', key, 'progress')
    end_event(b[1], id, key, 'skipped', now)
  end
end

-- Tells that nothing is left to be submitted.
local function tell_dispatched(id, key, now)
  add_event(id, key, 1, 'dispatched', counts_of(key), now)
end

-- A batch is over: tells so whoever wants to know.
local function tell_end(id, key, wants, now)
  if string.find(wants, 'd') and redis.call('HEXISTS', key, 'handed_ms') == 0 then
    tell_dispatched(id, key, now)
  end
  add_event(id, key, 0, 'completed', '', now)
  end_progress(id, key, now)
end

-- At most so many failed and undelivered messages of a batch are told of one by one.
local FAILURES_MAX = 10000

-- Tells of messages that failed in this step, by their indexes.
local function tell_failures(id, key, indexes, now)
  local told = tonumber(redis.call('HGET', key, 'failures') or 0)
  local last = math.min(#indexes, FAILURES_MAX - told)
  for i = 1, last do
    add_event(id, key, 4294967296 + indexes[i], 'failed', string.format('%.0f', indexes[i]), now)
  end
  if last > 0 then redis.call('HSET', key, 'failures', told + last) end
end

-- Late receipts are told of some time after they came, so that those that come together are told of
-- together: this long the first time, and so much longer each further time, so that a batch whose receipts
-- trickle in for days can be told of to the end. And at most so many times.
local AMEND_AFTER_MS, REVISIONS_MAX = 2000, 1000

-- Tells of the late receipts of a batch that is over, all that came so far. An event that nobody took or
-- read yet tells of more instead of being followed by another one.
local function tell_late(id, key, now)
  local b = redis.call('HMGET', key, 'wants', 'late2', 'late3', 'revision', 'amended', 'host')
  if not string.find(b[1] or '', 'a') then return end
  local last, revision = b[5] and P .. 'e:' .. b[5], tonumber(b[4] or 0)
  local waits = last and redis.call('HGET', last, 'number') == '0'
    and redis.call('HEXISTS', last, 'body') == 0
  if not waits then revision = revision + 1 end
  if revision > REVISIONS_MAX then return end
  local about = string.format('%d %s %s', revision, b[2], b[3])
  if waits then
    redis.call('HSET', last, 'about', about)
    return
  end
  local ulid = add_event(id, key, 8589934592 + revision, 'amended', about, now)
  redis.call('ZADD', wait_key(b[6]), now + revision * AMEND_AFTER_MS, ulid)
  redis.call('HSET', key, 'revision', revision, 'amended', ulid)
  redis.call('ZREM', P .. 'purge', id)
end
