#!lua flags=allow-oom
-- Claims the next chunk of a provider: of the priority that has its turn the account at the head of
-- the ring, of its batches the one at the head; both then go to the tail. A parked or returned chunk
-- that is due goes before the never-claimed ones.
--
-- Priorities share the turns by weight (stride scheduling): each has a mark, which moves on by its
-- stride with every turn it takes, and the one whose mark lies furthest back has the next turn. One
-- that had nothing to do joins at the mark of the last turn, so that it saves up no turns.
--
-- A batch rests in its quiet hours, and while its own rate has no time to give: then it leaves the
-- ring until that is over. A chunk of a batch with a rate of its own comes with a run of send times.
--
-- KEYS 1 partition
-- ARGV 1 provider  2 nonce  3 lease, ms
--      4 how far in the past a run of send times may begin, us  5 how far ahead of its first send time a chunk is
--      handed out, us  6 how long a run is, us (pace.rs)
-- Returns false | {batch, chunk, first index (4 bytes), token, now, states, recipients,
--                  {place, what is known, …} of messages tried before,
--                  {} | {first send time less now, us, how many},
--                  what lost leases left behind, each or nil: {losses, mark, suspect}}

local provider, nonce, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local CATCH_UP_US, AHEAD_US, RUN_US = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms()

-- How far a turn moves the mark of high, normal and low.
local STRIDES = { 1, 4, 16 }
local marks = P .. 'marks:' .. provider

local function reply(id, n, token, states, times)
  return { id, n, redis.call('GETRANGE', batch_key(id) .. ':f', n * 4, n * 4 + 3), token, now,
    states, redis.call('GET', chunk_key(id, 'r', n)) or '',
    redis.call('HGETALL', chunk_key(id, 'w', n)), times,
    redis.call('HMGET', batch_key(id) .. ':l', 'x' .. n, 'm' .. n, 'p' .. n) }
end

-- Until when a batch's quiet hours last, if they do now; no further than the next change of its
-- zone's offset.
local function quiet_until(quiet)
  local n, DAY_MS = {}, 86400000
  for number in string.gmatch(quiet, '%S+') do n[#n + 1] = tonumber(number) end
  local offset, changes_at = n[4] or 0, math.huge
  for i = 5, #n, 2 do
    if n[i] > now then
      changes_at = n[i]
      break
    end
    offset = n[i + 1]
  end
  local since_start, length = (now + offset - n[1]) % DAY_MS, (n[2] - n[1]) % DAY_MS
  return since_start < length and math.min(now + length - since_start, changes_at)
end

-- How far ahead the next send time of a batch's own rate lies, us; negative if it has passed. A clock
-- further ahead than runs reach was set before the machine's was stepped back.
local function next_time(key, interval_us)
  local now_us, clock = now * 1000, tonumber(redis.call('HGET', key, 'clock') or 0)
  if clock > now_us + AHEAD_US + math.max(RUN_US, interval_us) then clock = now_us end
  return math.max(clock - now_us, -CATCH_UP_US)
end

local function rests_until(key, quiet, interval)
  local rest = quiet and quiet_until(quiet)
  if rest or not interval then return rest end
  local first_in = next_time(key, interval / 1000)
  return first_in > AHEAD_US and now + math.floor((first_in - AHEAD_US) / 1000) + 1
end

-- A run of send times for a chunk with so many open messages, if its batch has a rate of its own.
local function send_times(key, interval, open)
  if not interval then return {} end
  local interval_us = interval / 1000
  local first_in = next_time(key, interval_us)
  local messages = math.min(math.max(1, math.floor(RUN_US / interval_us)), open)
  local clock = now * 1000 + first_in + math.ceil(messages * interval_us)
  redis.call('HSET', key, 'clock', string.format('%.0f', clock))
  return { first_in, messages }
end

-- A lost reply: the same nonce has its chunk already. Its send times are lost: others follow.
local held = redis.call('HGET', P .. 'claims', nonce)
if held then
  local id, n = string.match(held, '^(.*):(%d+)$')
  local lease = read_lease(id, n)
  if lease and lease.standing == 'H' then
    redis.call('ZADD', P .. 'leases', 'XX', lease_until(now, lease_ms), held)
    local states, key = redis.call('GET', chunk_key(id, 's', n)), batch_key(id)
    local times = send_times(key, redis.call('HGET', key, 'interval'), open_in(states))
    return reply(id, n, lease.token, states, times)
  end
end

-- The number of a chunk to claim, and whether it was never claimed before; nil if there is none.
local function next_chunk(id, key)
  local parked = redis.call('ZRANGE', key .. ':q', 0, 0, 'WITHSCORES')
  local due = tonumber(parked[2])
  if due and (due <= now or due > now + PARK_MAX_MS) then
    redis.call('ZREM', key .. ':q', parked[1])
    return tonumber(parked[1]), false
  end
  local b = redis.call('HMGET', key, 'cursor', 'chunks')
  if tonumber(b[1]) < tonumber(b[2]) then
    redis.call('HINCRBY', key, 'cursor', 1)
    return tonumber(b[1]), true
  end
  if due then redis.call('ZADD', P .. 'due', 'LT', due, id) end
  return nil
end

-- The priority that has its turn, the mark of that turn, and whether another waits for one.
local function next_turn()
  local m = redis.call('HMGET', marks, 'last', 1, 2, 3)
  local last, priority, mark, rivals = tonumber(m[1] or 0), nil, math.huge, -1
  for p = 1, #STRIDES do
    if redis.call('EXISTS', ring_key(provider, p)) == 1 then
      local its = math.max(tonumber(m[p + 1] or 0), last)
      if its < mark then priority, mark = p, its end
      rivals = rivals + 1
    end
  end
  return priority, mark, rivals > 0
end

local function hold(id, key, account, n, fresh, states, open, accounts, interval)
  local turn = redis.call('INCR', P .. 'turn')
  local token = string.format('%d-%s', turn, nonce)
  local member = id .. ':' .. n
  write_lease(id, n, { token = token, sequence = 0, standing = 'H' })
  redis.call('ZADD', P .. 'leases', lease_until(now, lease_ms), member)
  redis.call('HSET', P .. 'claims', nonce, member)
  redis.call('ZADD', accounts .. ':' .. account, turn, id)
  redis.call('ZADD', accounts, turn, account)
  if fresh then redis.call('HINCRBY', key, 'behind', 0 - open) end
  if redis.call('HGET', key, 'state') == 'queued' then
    redis.call('HSET', key, 'state', 'running')
    redis.call('HSETNX', key, 'started_ms', now)
  end
  sending(key, open)
  return reply(id, n, token, states, send_times(key, interval, open))
end

-- Bounded: each round claims a chunk, passes one without an open message, or shortens a ring.
for _ = 1, 32 do
  local priority, mark, contested = next_turn()
  if not priority then return false end
  local accounts = ring_key(provider, priority)
  local account = redis.call('ZRANGE', accounts, 0, 0)[1]
  local batches = accounts .. ':' .. account
  local id = redis.call('ZRANGE', batches, 0, 0)[1]
  if not id then
    redis.call('ZREM', accounts, account)
  else
    local key = batch_key(id)
    local b = redis.call('HMGET', key, 'state', 'closes', 'quiet', 'interval')
    local n, fresh
    if not b[2] and (b[1] == 'queued' or b[1] == 'running') then
      local rest = rests_until(key, b[3], b[4])
      if rest then
        redis.call('ZADD', P .. 'due', 'LT', math.min(rest, now + PARK_MAX_MS), id)
      else
        n, fresh = next_chunk(id, key)
      end
    end
    if not n then
      redis.call('ZREM', batches, id)
    else
      local states = redis.call('GET', chunk_key(id, 's', n))
      local open = open_in(states)
      if open > 0 then
        if contested then
          redis.call('HSET', marks, 'last', mark, priority, mark + STRIDES[priority])
        end
        return hold(id, key, account, n, fresh, states, open, accounts, b[4])
      end
    end
  end
end
ring('work ' .. provider)
return false
