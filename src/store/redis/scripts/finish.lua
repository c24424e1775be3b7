-- How a batch's counts move and how it ends, and what else the operations on messages share. Put
-- behind lib.lua and events.lua.
--
-- A batch's counts are kept by one function alone, `finish`, which also completes the batch:
--   * a message is counted in the step that makes it final, and in no other; one that was handed over and
--     waits for its receipt is counted in `n8` meanwhile;
--   * `open` is total less what is counted, so the step that brings it to 0 hands the batch over: from
--     then on receipts are waited for, but not for ever;
--   * the step that brings `open` and `n8` to 0 is the last one: it sets completed_ms, once, and creates
--     the completion event: one batch, one of them.

-- Nothing is left to be submitted, or to expire: from now on receipts are waited for. A batch that was
-- handed over before and is not among those that wait is damaged, and waits again: else it would not end.
local function await_receipts(id, key, wants, now)
  local until_ms = now + (redis.call('HGET', key, 'receipt_ms') or 0)
  redis.call('ZADD', P .. 'receipts', 'NX', until_ms, id)
  if redis.call('HSETNX', key, 'handed_ms', now) == 0 then return end
  redis.call('ZREM', P .. 'expiry', id)
  if string.find(wants, 'd') then tell_dispatched(id, key, now) end
end

-- Counts messages that became final in this step, or wait for a receipt from now on or no more (`moved`:
-- state byte -> number, negative for those that leave 8), and completes the batch if they were the last
-- ones. To be called once a step, after every other change of it. Gives true if the batch completed.
local function finish(id, key, moved, now)
  local b = redis.call('HMGET', key, 'provider', 'state', 'callback', 'wants', 'expire_ms', 'account',
    'n8')
  local left, final, awaiting = 0, 0, tonumber(b[7] or 0) + (moved[8] or 0)
  for byte, n in pairs(moved) do
    if n ~= 0 then
      redis.call('HINCRBY', key, 'n' .. byte, n)
      redis.call('HINCRBY', P .. 'stats', b[1] .. ':' .. byte, n)
      left = left + n
      if byte ~= 8 then final = final + n end
    end
  end
  if left ~= 0 then redis.call('HINCRBY', P .. 'stats', b[1] .. ':open', 0 - left) end
  local open = redis.call('HINCRBY', key, 'open', 0 - left)
  if open > 0 or awaiting > 0 then
    if open <= 0 then await_receipts(id, key, b[4] or '', now) end
    if final > 0 and b[4] and string.find(b[4], 'p') then
      tell_progress(id, key, open + awaiting, now)
    end
    return false
  end
  if redis.call('HSETNX', key, 'completed_ms', now) == 0 then return false end
  if b[2] ~= 'canceled' then redis.call('HSET', key, 'state', 'completed') end
  leave(id, key)
  redis.call('SREM', P .. 'unfinished:' .. b[6], id)
  redis.call('ZREM', P .. 'watch', id)
  redis.call('ZREM', P .. 'receipts', id)
  if b[5] then redis.call('ZREM', P .. 'expiry', id) end
  if b[3] == 'pending' then tell_end(id, key, b[4] or '', now) else keep_on(id, key, now) end
  return true
end

-- Ends what never left, with the final state `byte`, at the same cost whatever the batch's size: the
-- cursor goes to the end, and the messages behind it are counted at once; readers know them by `cut`,
-- the first chunk closed so, and `closes`. Parked chunks are closed by `close`, held ones when their
-- worker lets go.
local function cut_off(id, key, byte, now)
  local b = redis.call('HMGET', key, 'cursor', 'chunks', 'behind')
  redis.call('HSET', key, 'closes', byte, 'cut', b[1], 'cut_ms', now, 'cursor', b[2], 'behind', 0)
  leave(id, key)
  for _, set in ipairs({ 'due', 'scheduled', 'expiry' }) do redis.call('ZREM', P .. set, id) end
  if redis.call('ZCARD', key .. ':q') > 0 then redis.call('ZADD', P .. 'closing', now, id) end
  finish(id, key, { [byte] = tonumber(b[3]) }, now)
  ring('wish ' .. id)
end

-- What the workers of a batch are to do.
local function wish_of(state, closes)
  if closes then return closes == '5' and 'expire' or 'cancel' end
  return state == 'paused' and 'pause' or 'go'
end

-- Messages in workers' hands: `n` more of them (or fewer, if negative).
local function sending(key, n)
  if n ~= 0 then
    redis.call('HINCRBY', key, 'sending', n)
    redis.call('HINCRBY', P .. 'stats', redis.call('HGET', key, 'provider') .. ':sending', n)
  end
end

-- A lease's record: token, last sequence, and how it stands: H held, F let go, D done. It stays
-- when the lease ends, so that a repeated settlement is known for what it is. `losses` are those of
-- the chunk, see below.
local function read_lease(id, n)
  local l = redis.call('HMGET', P .. 'b:' .. id .. ':l', n, 'x' .. n)
  if not l[1] then return nil end
  local token, sequence, standing = string.match(l[1], '^(%S+) (%d+) (%a)$')
  return { token = token, sequence = tonumber(sequence), standing = standing,
    losses = tonumber(l[2]) }
end

local function write_lease(id, n, lease)
  redis.call('HSET', P .. 'b:' .. id .. ':l', n,
    lease.token .. ' ' .. lease.sequence .. ' ' .. lease.standing)
end

-- Until when a lease lasts that begins or goes on now. The longest one is kept in mind: see recover.
local function lease_until(now, lease_ms)
  local longest = tonumber(redis.call('HGET', P .. 'stats', 'lease_ms') or 0)
  if tonumber(lease_ms) > longest then redis.call('HSET', P .. 'stats', 'lease_ms', lease_ms) end
  return now + lease_ms
end

-- Ends a lease: nobody holds the chunk any more.
local function drop_lease(id, n, token)
  redis.call('ZREM', P .. 'leases', id .. ':' .. n)
  redis.call('HDEL', P .. 'claims', string.match(token, '%-(.*)$'))
end

-- What lost leases of a chunk left behind (past.rs has the rules), beside its lease's record:
--   x<chunk>  losses in a row without progress
--   m<chunk>  the mark: messages before this place may have been started, and when it was claimed, ms
--   p<chunk>  the suspect's place, and how often it was started alone and not settled
local LOSSES_MAX = 3

-- Notes that a lease was lost.
local function note_loss(id, n)
  local key, leases = batch_key(id), P .. 'b:' .. id .. ':l'
  if redis.call('HEXISTS', key, 'once') == 1 then return end
  redis.call('HINCRBY', leases, 'x' .. n, 1)
  local l = redis.call('HMGET', leases, 'm' .. n, 'p' .. n)
  if not l[1] then return end
  -- Only who handles a chunk with care marks it here: then one message was started, the last.
  local place = string.match(l[1], '^%d+') - 1
  local before, starts = string.match(l[2] or '', '^(%d+) (%d+)$')
  starts = tonumber(before) == place and starts + 1 or 1
  redis.call('HSET', leases, 'p' .. n, string.format('%d %d', place, starts))
  redis.call('HDEL', leases, 'm' .. n)
end

-- Ends every open message of a chunk as the batch closes: `canceled` or `expired`, or `unknown` if an
-- earlier try may have been accepted. Adds them to `moved`.
local function close_chunk(id, n, moved)
  local closes = tonumber(redis.call('HGET', batch_key(id), 'closes'))
  local key, waiting_key = chunk_key(id, 's', n), chunk_key(id, 'w', n)
  local before, parts, at, doubtful = redis.call('GET', key) or '', {}, 1, {}
  local past = redis.call('HMGET', P .. 'b:' .. id .. ':l', 'x' .. n, 'm' .. n)
  local started = past[1] and #before or tonumber(string.match(past[2] or '0', '^%d+'))
  local head, unknown = string.gsub(string.sub(before, 1, started), '%z', '\7')
  local states = head .. string.sub(before, started + 1)
  moved[7] = (moved[7] or 0) + unknown
  local waiting = redis.call('HGETALL', waiting_key)
  for i = 1, #waiting, 2 do
    if string.byte(waiting[i + 1]) == 1 then doubtful[#doubtful + 1] = waiting[i] + 1 end
  end
  table.sort(doubtful)
  for _, place in ipairs(doubtful) do
    if string.byte(states, place) == 0 then
      parts[#parts + 1] = string.sub(states, at, place - 1) .. '\7'
      at = place + 1
      moved[7] = (moved[7] or 0) + 1
    end
  end
  parts[#parts + 1] = string.sub(states, at)
  local closed, ended = string.gsub(table.concat(parts), '%z', string.char(closes))
  if closed ~= before then redis.call('SET', key, closed) end
  redis.call('DEL', waiting_key)
  moved[closes] = (moved[closes] or 0) + ended
end

-- How many messages are open. What is final is counted: a fresh chunk has none of it, and the
-- pattern then costs next to nothing.
local function open_in(states)
  local _, final = string.gsub(states or '', '[^%z]', '')
  return #(states or '') - final
end

-- Drops an unsealed upload in O(1): the key is free, nobody sees the batch, purge does the rest.
local function drop_upload(id, key, now)
  local b = redis.call('HMGET', key, 'claim', 'account')
  if b[1] and redis.call('GET', b[1]) == id then redis.call('DEL', b[1]) end
  redis.call('HDEL', key, 'claim', 'token')
  redis.call('HSET', key, 'state', 'dropped')
  redis.call('ZREM', P .. 'uploads', id)
  redis.call('SREM', P .. 'unfinished:' .. (b[2] or ''), id)
  redis.call('ZREM', P .. 'list:' .. (b[2] or ''), id)
  redis.call('ZADD', P .. 'purge', now, id)
end
