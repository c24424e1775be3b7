#!lua flags=allow-oom
-- Keeps an event's body, unless it has one. Of an event that was erased nothing is kept: nobody would
-- ever erase that. Nor is one of late receipts kept if more of them came since it was rendered: they would
-- never be told of, since the event tells of more only until its body is kept.
--
-- KEYS 1 partition
-- ARGV 1 event  2 body
-- Returns the body that is kept | false (there is no such event any more, or it tells of more by now)

local event = P .. 'e:' .. ARGV[1]
local e = redis.call('HMGET', event, 'kind', 'about', 'body')
if not e[1] then return false end
if e[3] then return e[3] end

if e[1] == 'amended' then
  local late = cjson.decode(ARGV[2]).data.late_receipts
  local told = string.format('%d %d %d', late.revision, late.delivered, late.undelivered)
  if told ~= e[2] then return false end
end
redis.call('HSET', event, 'body', ARGV[2])
return ARGV[2]
