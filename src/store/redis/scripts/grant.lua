#!lua flags=allow-oom
-- Hands out a run of send times (GCRA: the rate's clock moves ahead by what is handed out, so
-- that all workers together never exceed it).
--
-- KEYS 1 the provider's rate
-- ARGV 1 interval, ns  2 burst, us  3 how many
-- Returns {1, first send time less now, us} | {0, wait, us, 1 if the provider is paused}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, wanted = ARGV[1] / 1000, tonumber(ARGV[2]), tonumber(ARGV[3])
local AHEAD_US, PAUSE_MAX_US, STOPPED_LOOK_US = 1000000, 600000000, 100000

local r = redis.call('HMGET', KEYS[1], 'clock', 'paused', 'stopped')
local clock, paused = tonumber(r[1] or 0), tonumber(r[2] or 0)
if r[3] then return { 0, STOPPED_LOOK_US, 1 } end
if paused > now and paused <= now + PAUSE_MAX_US then return { 0, paused - now, 1 } end

-- Further ahead than any grant reaches: the machine's clock was stepped back.
if clock > now + AHEAD_US + 2 * (wanted * interval + burst) then clock = now end
local first = math.max(clock, now - burst)
if first > now + AHEAD_US then return { 0, first - now - AHEAD_US, 0 } end
redis.call('HSET', KEYS[1], 'clock', string.format('%.3f', first + wanted * interval))
return { 1, math.ceil(first - now) }
