#!lua flags=allow-oom
-- Pauses a provider for every worker; never shortens a pause. If asked, cuts its rate: at most once a
-- pause and second.
--
-- KEYS 1 the provider's rate
-- ARGV 1 provider  2 pause, us  3 1 to cut the rate, else 0
-- Returns how much of the rate is left if this cut it, millionths; else 0

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local r = redis.call('HMGET', KEYS[1], 'paused', 'share', 'since', 'uncut')
local paused, uncut = tonumber(r[1] or 0), tonumber(r[4] or 0)
if paused > now + PAUSE_MAX_US then paused = 0 end
local until_us = math.max(paused, now + math.min(tonumber(ARGV[2]), PAUSE_MAX_US))
redis.call('HSET', KEYS[1], 'paused', string.format('%.0f', until_us))
local left = 0
if ARGV[3] == '1' and (now >= uncut or uncut > now + PAUSE_MAX_US) then
  left = math.max(FLOOR, math.floor(share_at(r[2], r[3], now) / 2))
  local quiet = string.format('%.0f', math.max(until_us, now + CUT_EVERY_US))
  redis.call('HSET', KEYS[1], 'share', left, 'since', string.format('%.0f', until_us), 'uncut', quiet)
end
redis.pcall('PUBLISH', 'rb:bell', 'pause ' .. ARGV[1])
return left
