#!lua flags=allow-oom
-- Keeps an event's body, unless it has one. Of an event that was erased nothing is kept: nobody would
-- ever erase that.
--
-- KEYS 1 partition
-- ARGV 1 event  2 body
-- Returns the body that is kept | false (there is no such event any more)

local event = P .. 'e:' .. ARGV[1]
if redis.call('EXISTS', event) == 0 then return false end
redis.call('HSETNX', event, 'body', ARGV[2])
return redis.call('HGET', event, 'body')
