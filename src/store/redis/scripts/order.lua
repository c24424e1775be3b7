#!lua
-- Notes an order to deliver ended events again. It is carried out by redo.
--
-- KEYS 1 partition
-- ARGV 1 nonce  2 account  3 state  4 since, ms  5 host, '' for all
-- Returns 1

local order = P .. 'replay:' .. ARGV[1]
if redis.call('EXISTS', order) == 1 then return 1 end
local now = now_ms()
redis.call('HSET', order, 'account', ARGV[2], 'state', ARGV[3], 'since', ARGV[4], 'host', ARGV[5],
  'at', now, 'place', 0)
redis.call('RPUSH', P .. 'orders:' .. ARGV[2], ARGV[1])
redis.call('ZADD', P .. 'replaying', 'NX', redis.call('INCR', P .. 'turn'), ARGV[2])
return 1
