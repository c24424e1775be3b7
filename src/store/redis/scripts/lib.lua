-- What the scripts share; put in front of each of them, followed by events.lua and finish.lua.
--
-- All keys of a partition begin with KEYS[1], its prefix with the hash tag; keys.rs lists them.

local P = KEYS[1]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function batch_key(id) return P .. 'b:' .. id end
local function chunk_key(id, kind, n) return P .. 'b:' .. id .. ':' .. kind .. ':' .. n end

-- An instant counts as due once it has passed, and also if it lies further ahead than its kind
-- allows: then the clock was stepped back, and waiting for it would freeze the batch.
local function due_range(key, now, ahead_ms, limit)
  local due = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, limit)
  if #due > 0 then return due end
  return redis.call('ZRANGEBYSCORE', key, '(' .. (now + ahead_ms), '+inf', 'LIMIT', 0, limit)
end

-- A parked chunk is looked at again after this long at the latest.
local PARK_MAX_MS = 900000

-- A batch waits for its time, and lasts from its beginning, no longer than this.
local SCHEDULE_MAX_MS = 366 * 86400000

-- The bell saves others from waiting, and nothing else: a server that refuses to carry it must not end
-- a script in the middle of its writes.
local function ring(word) redis.pcall('PUBLISH', 'rb:bell', word) end

-- The ring of a provider's accounts with batches of this priority.
local function ring_key(provider, priority) return P .. 'ring:' .. priority .. ':' .. provider end

-- Puts a batch at the tail of its rings, unless it is in them.
local function enter(id, key)
  local b = redis.call('HMGET', key, 'provider', 'account', 'priority')
  local accounts = ring_key(b[1], b[3])
  local turn = redis.call('INCR', P .. 'turn')
  redis.call('ZADD', accounts .. ':' .. b[2], 'NX', turn, id)
  redis.call('ZADD', accounts, 'NX', turn, b[2])
  ring('work ' .. b[1])
end

-- Has a batch that no worker has begun on wait for its time, or puts it into its rings if that has
-- come.
local function begin(id, key, now)
  local at = tonumber(redis.call('HGET', key, 'send_ms') or 0)
  if at > now and at <= now + SCHEDULE_MAX_MS then
    redis.call('HSET', key, 'state', 'scheduled')
    redis.call('ZADD', P .. 'scheduled', at, id)
  else
    redis.call('HSET', key, 'state', 'queued')
    redis.call('ZREM', P .. 'scheduled', id)
    enter(id, key)
  end
end

-- Takes a batch out of its rings. An account without batches is dropped at its next turn.
local function leave(id, key)
  local b = redis.call('HMGET', key, 'provider', 'account', 'priority')
  redis.call('ZREM', ring_key(b[1], b[3]) .. ':' .. b[2], id)
end
