#!lua flags=no-writes
-- How long a provider is still paused.
--
-- KEYS 1 the provider's rate
-- Returns us; 0 if it isn't paused

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local paused = tonumber(redis.call('HGET', KEYS[1], 'paused') or 0)
local left = paused - now
return left > 0 and left <= 600000000 and left or 0
