#!lua flags=no-writes
-- Whether numbers are on an account's list of those that get nothing.
--
-- KEYS 1 partition
-- ARGV 1 account  2 number of buckets  then numbers, their digits
-- Returns a text of a '1' for each that is, and a '0' for each that is not

local list, buckets, found = KEYS[1] .. 'off:' .. ARGV[1] .. ':', tonumber(ARGV[2]), {}
for i = 3, #ARGV do
  found[i - 2] = redis.call('SISMEMBER', list .. ARGV[i] % buckets, ARGV[i])
end
return table.concat(found)
