#!lua flags=no-writes
-- How long a provider is still paused, and whether it is stopped until it is told to go on; how much of its
-- rate may be used; and whether it is away.
--
-- KEYS 1 the provider's rate
-- Returns {us, 0 if it isn't paused; 1 if it is stopped, else 0; millionths; how long it is left alone,
-- us, -1 if it isn't away}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local r = redis.call('HMGET', KEYS[1], 'paused', 'stopped', 'share', 'since', 'away')
local function left(until_us)
  local left = tonumber(until_us or 0) - now
  return left > 0 and left <= PAUSE_MAX_US and left or 0
end
return { left(r[1]), r[2] and 1 or 0, share_at(r[3], r[4], now), r[5] and left(r[5]) or -1 }
