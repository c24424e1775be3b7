#!lua flags=allow-oom
-- Pauses a provider for every worker; never shortens a pause.
--
-- KEYS 1 the provider's rate
-- ARGV 1 provider  2 pause, us
-- Returns how long the provider is paused from now, us

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local PAUSE_MAX_US = 600000000
local paused = tonumber(redis.call('HGET', KEYS[1], 'paused') or 0)
if paused > now + PAUSE_MAX_US then paused = 0 end
local until_us = math.max(paused, now + math.min(tonumber(ARGV[2]), PAUSE_MAX_US))
redis.call('HSET', KEYS[1], 'paused', string.format('%.0f', until_us))
redis.pcall('PUBLISH', 'rb:bell', 'pause ' .. ARGV[1])
return until_us - now
