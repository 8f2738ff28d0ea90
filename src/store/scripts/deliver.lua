-- Hands out the next entries of a mailbox, and notes in the checkpoint what is being served, so that whoever
-- comes after a holder that vanished can count the attempt against the right entry. Entries travel packed, as one
-- value (see packed.rs): as values of the protocol they cost both sides more than all else in a turn.

-- Compares two stream ids without losing digits: both parts as zero-padded text.
local function id_key(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end

-- The highest id that the stream ever had, '0-0' where there is none. For a stream without entries: of others the answer
-- of Redis carries the first and the last entry whole.
local function last_id(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if not info.err then
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then return info[i + 1] end
    end
  end
  return '0-0'
end

-- BROKEN where the stream has never reached the offset: it was deleted or replaced, and what it gets from now on
-- might lie behind the offset and never be seen.
local function lies_behind(stream, offset)
  if offset == '0-0' then return nil end
  local last = last_id(stream)
  if id_key(last) < id_key(offset) then
    return { 'BROKEN', stream, 'its last entry id ' .. last .. ' lies behind the stored offset ' .. offset }
  end
end

-- Every entry that exists is unacknowledged (acknowledging deletes), so a lost group may start at 0.
local function create_pool(stream)
  redis.pcall('XGROUP', 'CREATE', stream, 'pool', '0', 'MKSTREAM')
end

local function serve(entries)
  local n = #entries
  if n > 0 then
    redis.call('HSET', KEYS[1], 'serving', entries[1][1] .. ' ' .. entries[n][1] .. ' ' .. n)
  end
  return entries
end

-- What is known of the past of the first of these entries: failed, unfinished, reason.
local function attempts(entries)
  if #entries == 0 then return '0', '0', '' end
  local att = redis.call('HMGET', KEYS[1], 'head', 'failed', 'unfinished', 'fault')
  if att[1] ~= entries[1][1] then return '0', '0', '' end
  return att[2] or '0', att[3] or '0', att[4] or ''
end

-- An exclusive unit: the range behind its offset, at most `count` entries and about `bytes_max` bytes.
-- Reading changes nothing, so a repeated read neither skips nor reorders.
-- Up to the id `careful` they go one by one: a turn that served them together has failed.
local function deliver_range(stream, offset, careful, count, bytes_max)
  if careful and careful ~= '' then
    if id_key(careful) > id_key(offset) then
      count = 1
    else
      redis.call('HDEL', KEYS[1], 'careful')
    end
  end
  local out, bytes, from = {}, 0, '(' .. offset
  while #out < count and bytes < bytes_max do
    local step = math.min(50, count - #out)
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', step)
    for i = 1, #page do
      for f = 1, #page[i][2] do
        bytes = bytes + #page[i][2][f]
      end
      -- At least one entry travels, whatever its size.
      if bytes > bytes_max and #out > 0 then
        return out
      end
      out[#out + 1] = page[i]
    end
    if #page < step then
      break
    end
    from = '(' .. page[#page][1]
  end
  return out
end

-- One entry of the pool for this slot: its first pending one ('0') or a new one ('>').
local function take(stream, slot, which)
  local answer
  for _ = 1, 2 do
    answer = redis.pcall('XREADGROUP', 'GROUP', 'pool', slot, 'COUNT', 1, 'STREAMS', stream, which)
    if not (answer and answer.err) then break end
    -- The group is gone: an operator's XGROUP DESTROY or DEL.
    create_pool(stream)
  end
  if answer and answer.err then
    return nil, { 'BROKEN', stream, answer.err }
  end
  return answer and answer[1] and answer[1][2][1]
end

-- A slot of a pool: first what this slot still owes, then one new entry, unless the configuration has the slot no
-- more (`only_owed`). Entries that were deleted under the slot are taken off its list. One entry a turn.
local function deliver_slot(stream, slot, only_owed)
  for _ = 1, 100 do
    local entry, broken = take(stream, slot, '0')
    if broken then return nil, broken end
    if not entry then break end
    if entry[2] and #entry[2] > 0 then
      return { entry }
    end
    redis.call('XACK', stream, 'pool', entry[1])
  end
  if only_owed then return {} end
  local entry, broken = take(stream, slot, '>')
  if broken then return nil, broken end
  return entry and { entry } or {}
end
