#!lua flags=allow-oom
-- Extends leases, and tells what the clients wish.
--
-- KEYS 1 partition
-- ARGV 1 lease, ms  then for each chunk: batch, chunk, token
-- Returns for each chunk 'go' | 'pause' | 'cancel' | 'expire' | 'lost'

local deadline = lease_until(now_ms(), ARGV[1])
local standings = {}
for i = 2, #ARGV, 3 do
  local id, n = ARGV[i], ARGV[i + 1]
  local lease = read_lease(id, n)
  local standing = 'lost'
  if lease and lease.token == ARGV[i + 2] and lease.standing == 'H' then
    redis.call('ZADD', P .. 'leases', deadline, id .. ':' .. n)
    standing = wish_of(unpack(redis.call('HMGET', batch_key(id), 'state', 'closes')))
  end
  standings[#standings + 1] = standing
end
return standings
