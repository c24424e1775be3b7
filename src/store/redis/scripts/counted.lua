#!lua flags=allow-oom
-- Ends what count began: the batch was accepted, or it was not and its recipients are free again.
--
-- KEYS 1 the account's day
-- ARGV 1 batch  2 1 if it was accepted, else 0
-- Returns 1 if it was known, else 0

local recipients = redis.call('HGET', KEYS[1], ARGV[1])
if not recipients then return 0 end
if ARGV[2] == '0' then redis.call('HINCRBY', KEYS[1], 'recipients', -recipients) end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
