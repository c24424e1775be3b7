#!lua flags=allow-oom
-- Takes events that are due, and writes down that an attempt of each begins.
--
-- KEYS 1 partition
-- ARGV 1 at most so many  2 lease, ms  3 the longest delay between attempts, ms
-- Returns {batch, attempt number, body or '', …}

local now = now_ms()
local taken = {}
for _, id in ipairs(due_range(P .. 'events', now, tonumber(ARGV[3]), tonumber(ARGV[1]))) do
  local event = P .. 'e:' .. id
  local number = redis.call('HINCRBY', event, 'number', 1)
  redis.call('ZADD', P .. 'events', now + ARGV[2], id)
  redis.call('RPUSH', event .. ':a', string.format('%d %.0f ', number, now))
  redis.call('LTRIM', event .. ':a', -20, -1)
  taken[#taken + 1] = id
  taken[#taken + 1] = number
  taken[#taken + 1] = redis.call('HGET', event, 'body') or ''
end
return taken
