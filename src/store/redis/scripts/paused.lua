#!lua flags=no-writes
-- How long a provider is still paused, and whether it is stopped until it is told to go on.
--
-- KEYS 1 the provider's rate
-- Returns {us, 0 if it isn't paused; 1 if it is stopped, else 0}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local r = redis.call('HMGET', KEYS[1], 'paused', 'stopped')
local left = tonumber(r[1] or 0) - now
return { left > 0 and left <= 600000000 and left or 0, r[2] and 1 or 0 }
