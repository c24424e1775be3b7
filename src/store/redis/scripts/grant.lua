#!lua flags=allow-oom
-- Hands out a run of send times (GCRA: the rate's clock moves ahead by what is handed out, so
-- that all workers together never exceed it). Rates below the provider's have clocks of their own: the
-- run is taken from all of them. None is handed out that would wait for one of these longer than for the
-- provider's, since the provider's clock would pass over times that others could use.
--
-- KEYS 1 the provider's rate; a level's clock is under its name behind that
-- ARGV 1 interval, ns  2 burst, us  3 how many  4 how far ahead at most, us
--      5 the most that is ever wanted at once  6… name and interval, ns, of each level below
-- Returns {1, first send time less now, us} | {0, wait, us, 1 if the provider is paused}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, wanted = ARGV[1] / 1000, tonumber(ARGV[2]), tonumber(ARGV[3])
local ahead, most = tonumber(ARGV[4]), math.max(wanted, ARGV[5])
local PAUSE_MAX_US, STOPPED_LOOK_US, KEPT_MS = 600000000, 100000, 60000

local r = redis.call('HMGET', KEYS[1], 'clock', 'paused', 'stopped')
local paused = tonumber(r[2] or 0)
if r[3] then return { 0, STOPPED_LOOK_US, 1 } end
if paused > now and paused <= now + PAUSE_MAX_US then return { 0, paused - now, 1 } end

-- What a clock says. Further ahead than any grant reaches: the machine's clock was stepped back.
local function read(clock, each)
  clock = tonumber(clock or 0)
  local reach = ahead + 2 * (most * each + burst)
  return math.max(clock > now + reach and now or clock, now - burst)
end

local first = read(r[1], interval)
local base = math.max(first, now)
for i = 6, #ARGV, 2 do
  local clock = read(redis.call('GET', KEYS[1] .. ':' .. ARGV[i]), ARGV[i + 1] / 1000)
  if clock > base then return { 0, math.ceil(clock - base), 0 } end
  first = math.max(first, clock)
end
if first > now + ahead then return { 0, math.ceil(first - now - ahead), 0 } end

redis.call('HSET', KEYS[1], 'clock', string.format('%.3f', first + wanted * interval))
for i = 6, #ARGV, 2 do
  local clock = first + wanted * ARGV[i + 1] / 1000
  local kept = math.ceil((clock - now) / 1000) + KEPT_MS
  redis.call('SET', KEYS[1] .. ':' .. ARGV[i], string.format('%.3f', clock), 'PX', kept)
end
return { 1, math.ceil(first - now) }
