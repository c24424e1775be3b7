#!lua flags=allow-oom
-- Notes that a provider is away, as a worker found, or that it is back.
--
-- KEYS 1 the provider's rate
-- ARGV 1 how long it is left alone, us; empty if it is back
-- Returns 1

if ARGV[1] == '' then
  redis.call('HDEL', KEYS[1], 'away')
else
  local time = redis.call('TIME')
  local until_us = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
  redis.call('HSET', KEYS[1], 'away', string.format('%.0f', until_us))
end
return 1
