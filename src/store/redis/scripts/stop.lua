#!lua flags=allow-oom
-- Stops a provider for every worker until it is told to go on, or tells it that.
--
-- KEYS 1 the provider's rate
-- ARGV 1 provider  2 1 to stop, 0 to go on
-- Returns 1

if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'stopped', 1)
else
  redis.call('HDEL', KEYS[1], 'stopped')
end
redis.pcall('PUBLISH', 'rb:bell', 'pause ' .. ARGV[1])
return 1
