#!lua flags=allow-oom
-- Takes what a carrier said of messages of one batch. It carries no lease: a receipt only moves a message
-- forward, whoever holds its chunk, and what comes again or too late changes no count.
--
-- KEYS 1 partition
-- ARGV 1 batch  2 ',name,name,': the providers that the batch may have been sent through
--      then for each receipt: the message's index, 2 delivered or 3 undelivered, its record
-- Returns one letter a receipt: c counted | e counted, before our own record of the submission
--         | a said before | l late, kept beside a final state | x against what is known
--         | u no such message was handed over, or its batch is erased
--
-- A message's byte: 0 is open; 8 was handed over and waits for its receipt; 1 to 7 are final. A late
-- receipt is noted in the byte too, so that there is but one: 9 and 10 are 1 with a late 2 and 3, 11 and 12
-- are 7 with them.

local id = ARGV[1]
local key, now = batch_key(id), now_ms()
local b = redis.call('HMGET', key, 'provider', 'hash', 'completed_ms', 'cursor', 'cut', 'state', 'wants',
  'purged')
local letters, failures = {}, {}

-- A batch that is being erased, or is about to be, is gone already: nothing may put that off.
local function is_erased()
  local at = redis.call('ZSCORE', P .. 'purge', id)
  return b[6] == 'dropped' or b[8] or (at and tonumber(at) <= now)
end

if not b[2] or is_erased() or not string.find(ARGV[2], ',' .. b[1] .. ',', 1, true) then
  for _ = 3, #ARGV, 3 do letters[#letters + 1] = 'u' end
  return table.concat(letters)
end

local firsts, chunks = key .. ':f', redis.call('STRLEN', key .. ':f') / 4
local function first_of(n)
  local b1, b2, b3, b4 = string.byte(redis.call('GETRANGE', firsts, n * 4, n * 4 + 3), 1, 4)
  return ((b1 * 256 + b2) * 256 + b3) * 256 + b4
end

-- The chunk that holds a message, found by halving; receipts side by side look once.
local n, from, to = nil, 0, -1
local function seek(index)
  if index >= from and index < to then return end
  local low, high = 0, chunks
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if first_of(middle) <= index then low = middle else high = middle end
  end
  n, from = low, first_of(low)
  to = low + 1 < chunks and first_of(low + 1) or math.huge
end

local moved, late = {}, { [2] = 0, [3] = 0 }
local function move(byte, by) moved[byte] = (moved[byte] or 0) + by end

-- A message that is open can only have been handed over if its chunk was claimed.
local function was_claimed() return n < tonumber(b[4]) and not (b[5] and n >= tonumber(b[5])) end

-- Chunks that nobody holds, and of which early receipts ended messages.
local returned = {}

-- A message whose submission is not recorded yet leaves the hands it is in.
local function count_early(word)
  move(word, 1)
  local lease = read_lease(id, n)
  if lease and lease.standing == 'H' then sending(key, -1) else returned[n] = true end
end

-- A chunk that is left without an open message is nobody's any more.
local function drop_ended()
  for chunk in pairs(returned) do
    if not string.find(redis.call('GET', chunk_key(id, 's', chunk)), '%z') then
      redis.call('ZREM', key .. ':q', chunk)
      redis.call('DEL', chunk_key(id, 'w', chunk))
    end
  end
end

local function take(index, word, record)
  if chunks == 0 then return 'u' end
  seek(index)
  local place, states = index - from, chunk_key(id, 's', n)
  local byte = string.byte(redis.call('GETRANGE', states, place, place))
  local becomes, letter
  if not byte or (byte == 0 and not was_claimed()) then return 'u' end
  if byte == 0 then
    becomes, letter = word, 'e'
  elseif byte == 8 and not b[3] then
    becomes, letter = word, 'c'
  elseif byte == 8 or byte == 1 then
    becomes, letter = word + 7, 'l'
  elseif byte == 7 then
    becomes, letter = word + 9, 'l'
  else
    local again = byte == word or byte == word + 7 or byte == word + 9
    return again and 'a' or 'x'
  end
  redis.call('SETRANGE', states, place, string.char(becomes))
  redis.call('APPEND', chunk_key(id, 't', n),
    string.char(math.floor(place / 256), place % 256) .. record)
  if letter ~= 'l' and word == 3 then failures[#failures + 1] = index end
  if letter == 'e' then
    count_early(word)
  elseif letter == 'c' then
    move(word, 1)
    move(8, -1)
  else
    late[word] = late[word] + 1
  end
  return letter
end

for i = 3, #ARGV, 3 do
  letters[#letters + 1] = take(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2])
end
drop_ended()
if #failures > 0 and string.find(b[7] or '', 'f') then tell_failures(id, key, failures, now) end
if next(moved) then finish(id, key, moved, now) end
-- Before the batch is over they are kept beside their messages, and that is all.
if b[3] and late[2] + late[3] > 0 then
  redis.call('HINCRBY', key, 'late2', late[2])
  redis.call('HINCRBY', key, 'late3', late[3])
  tell_late(id, key, now)
end
return table.concat(letters)
