#!lua flags=allow-oom
-- Claims the next chunk of a provider: of the priority that has its turn the account at the head of
-- the ring, of its batches the one at the head; both then go to the tail. A parked or returned chunk
-- that is due goes before the never-claimed ones.
--
-- Priorities share the turns by weight (stride scheduling): each has a mark, which moves on by its
-- stride with every turn it takes, and the one whose mark lies furthest back has the next turn. One
-- that had nothing to do joins at the mark of the last turn, so that it saves up no turns.
--
-- KEYS 1 partition
-- ARGV 1 provider  2 nonce  3 lease, ms
-- Returns false | {batch, chunk, first index (4 bytes), token, now, states, recipients,
--                  {place, what is known, …} of messages tried before}

local provider, nonce, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()

-- How far a turn moves the mark of high, normal and low.
local STRIDES = { 1, 4, 16 }
local marks = P .. 'marks:' .. provider

local function reply(id, n, token, states)
  return { id, n, redis.call('GETRANGE', batch_key(id) .. ':f', n * 4, n * 4 + 3), token, now,
    states, redis.call('GET', chunk_key(id, 'r', n)) or '',
    redis.call('HGETALL', chunk_key(id, 'w', n)) }
end

-- A lost reply: the same nonce has its chunk already.
local held = redis.call('HGET', P .. 'claims', nonce)
if held then
  local id, n = string.match(held, '^(.*):(%d+)$')
  local lease = read_lease(id, n)
  if lease and lease.standing == 'H' then
    redis.call('ZADD', P .. 'leases', 'XX', lease_until(now, lease_ms), held)
    return reply(id, n, lease.token, redis.call('GET', chunk_key(id, 's', n)))
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

local function hold(id, key, account, n, fresh, states, open, accounts)
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
  return reply(id, n, token, states)
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
    local b = redis.call('HMGET', key, 'state', 'closes')
    local n, fresh
    if not b[2] and (b[1] == 'queued' or b[1] == 'running') then n, fresh = next_chunk(id, key) end
    if not n then
      redis.call('ZREM', batches, id)
    else
      local states = redis.call('GET', chunk_key(id, 's', n))
      local open = open_in(states)
      if open > 0 then
        if contested then
          redis.call('HSET', marks, 'last', mark, priority, mark + STRIDES[priority])
        end
        return hold(id, key, account, n, fresh, states, open, accounts)
      end
    end
  end
end
ring('work ' .. provider)
return false
