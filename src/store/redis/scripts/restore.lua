#!lua flags=allow-oom
-- Takes numbers off an account's list of those that get nothing.
--
-- KEYS 1 partition
-- ARGV 1 account  2 number of buckets  then numbers, their digits
-- Returns how many were on the list

local list, buckets, removed = KEYS[1] .. 'off:' .. ARGV[1], tonumber(ARGV[2]), 0
for i = 3, #ARGV do
  local bucket = ARGV[i] % buckets
  local key = list .. ':' .. bucket
  if redis.call('SREM', key, ARGV[i]) == 1 then
    if redis.call('EXISTS', key) == 0 then redis.call('SETBIT', list .. ':map', bucket, 0) end
    removed = removed + 1
  end
end
if removed > 0 and redis.call('DECRBY', list .. ':count', removed) == 0 then
  redis.call('DEL', list .. ':count', list .. ':map')
end
return removed
