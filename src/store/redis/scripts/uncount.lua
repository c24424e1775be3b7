#!lua flags=allow-oom
-- Takes back what count did for a batch that was not accepted.
--
-- KEYS 1 the account's day
-- ARGV 1 batch
-- Returns 1 if it was counted, else 0

local recipients = redis.call('HGET', KEYS[1], ARGV[1])
if not recipients then return 0 end
redis.call('HINCRBY', KEYS[1], 'recipients', -recipients)
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
