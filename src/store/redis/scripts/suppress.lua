#!lua flags=allow-oom
-- Puts numbers on an account's list of those that get nothing. A Redis that is full takes them: a dozen bytes
-- each, while what was accepted goes on to be sent.
--
-- KEYS 1 partition
-- ARGV 1 account  2 number of buckets  then numbers, their digits
-- Returns how many were not on the list

local list, buckets, added = KEYS[1] .. 'off:' .. ARGV[1], tonumber(ARGV[2]), 0
for i = 3, #ARGV do
  local bucket = ARGV[i] % buckets
  if redis.call('SADD', list .. ':' .. bucket, ARGV[i]) == 1 then
    redis.call('SETBIT', list .. ':map', bucket, 1)
    added = added + 1
  end
end
if added > 0 then redis.call('INCRBY', list .. ':count', added) end
return added
