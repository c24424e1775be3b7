#!lua flags=allow-oom
-- Applies outcomes to a chunk that the caller holds, and lets go of it if asked. A final state is
-- never overwritten, and what did not change is not counted. Only who holds a chunk ends its lease,
-- even if nothing of it is open any more: receipts may be faster than the record of a submission.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 chunk  3 token  4 sequence
--      5 runs of final states: place (2 bytes), messages (2 bytes, big end first), state (1 byte);
--        in the order of their places
--      6 records for the chunk's log
--      7 '' to go on holding, else when the chunk may be claimed again, ms (0: at once)
--      8 how far messages are started from now on, and when they were claimed, or ''
--      then for each message that waits: place, what is known of it
-- Returns 'go' | 'pause' | 'cancel' | 'expire' (applied, and what is wished) | 'done' (let go of, and nothing of it is
--         open) | 'completed' (applied, and with it the batch is over) | 'lost' | 'behind <sequence>'

local id, n = ARGV[1], ARGV[2]
local key = batch_key(id)
local sequence, release = tonumber(ARGV[4]), tonumber(ARGV[7])
local lease = read_lease(id, n)
local b = redis.call('HMGET', key, 'state', 'wants', 'closes')
local state, wish = b[1], wish_of(b[1], b[3])

if not lease or lease.token ~= ARGV[3] then return 'lost' end
if sequence <= lease.sequence then return lease.standing == 'D' and 'done' or wish end
if lease.standing ~= 'H' then return 'lost' end
if sequence > lease.sequence + 1 then return 'behind ' .. lease.sequence end

local now = now_ms()
local states = redis.call('GET', chunk_key(id, 's', n))
if not states then return 'lost' end
local parts, at, moved, ended = {}, 1, {}, 0
local failures, tells_failures = {}, b[2] and string.find(b[2], 'f')
local runs = ARGV[5]
for i = 1, #runs, 5 do
  local ph, pl, mh, ml, byte = string.byte(runs, i, i + 4)
  local from = ph * 256 + pl + 1
  local to = from + mh * 256 + ml - 1
  if byte == 4 and tells_failures then
    for place = from, to do
      if string.byte(states, place) == 0 then failures[#failures + 1] = place - 1 end
    end
  end
  local run, changed = string.gsub(string.sub(states, from, to), '%z', string.char(byte))
  parts[#parts + 1] = string.sub(states, at, from - 1)
  parts[#parts + 1] = run
  at = to + 1
  moved[byte] = (moved[byte] or 0) + changed
  ended = ended + changed
end
parts[#parts + 1] = string.sub(states, at)
states = table.concat(parts)

if ended > 0 then redis.call('SET', chunk_key(id, 's', n), states) end
if ARGV[6] ~= '' then redis.call('APPEND', chunk_key(id, 'o', n), ARGV[6]) end
for i = 9, #ARGV, 2 do redis.call('HSET', chunk_key(id, 'w', n), ARGV[i], ARGV[i + 1]) end

-- What is started is written down with what has ended. Who lets go has started nothing more, and what
-- an earlier lease left in doubt comes with the first settlement.
local leases = key .. ':l'
if ARGV[8] ~= '' and not release then
  redis.call('HSET', leases, 'm' .. n, ARGV[8])
elseif release or sequence == 1 then
  redis.call('HDEL', leases, 'm' .. n)
end
if (ended > 0 or #ARGV > 8) and lease.losses and lease.losses < LOSSES_MAX then
  redis.call('HSET', leases, 'x' .. n, 0)
end

-- How many messages leave the worker's hands: those that ended, and with a release the rest.
local has_open, leaving = string.find(states, '%z'), ended
local done = release and not has_open
if release and has_open then
  leaving = leaving + open_in(states)
  if b[3] then
    close_chunk(id, n, moved)
    done = true
  end
end

lease.sequence = sequence
if done then
  lease.standing = 'D'
  redis.call('DEL', chunk_key(id, 'w', n))
  local log = redis.call('GET', chunk_key(id, 'o', n))
  if log then redis.call('SET', chunk_key(id, 'o', n), log) end
elseif release then
  lease.standing = 'F'
  local due = math.max(now, math.min(release, now + PARK_MAX_MS))
  redis.call('ZADD', key .. ':q', due, n)
  if due > now then
    redis.call('ZADD', P .. 'due', 'LT', due, id)
  elseif state == 'running' then
    enter(id, key)
  end
end
write_lease(id, n, lease)
if lease.standing ~= 'H' then drop_lease(id, n, lease.token) end
sending(key, -leaving)
if #failures > 0 then
  local b1, b2, b3, b4 = string.byte(redis.call('GETRANGE', key .. ':f', n * 4, n * 4 + 3), 1, 4)
  local first = ((b1 * 256 + b2) * 256 + b3) * 256 + b4
  for i = 1, #failures do failures[i] = first + failures[i] end
  tell_failures(id, key, failures, now)
end
if finish(id, key, moved, now) then return 'completed' end
if done then return 'done' end
-- What the holder still has of a chunk without an open message need not be sent.
return has_open and wish or 'pause'
