-- Hands out the next entries of a mailbox, and notes in the checkpoint what is being served, so that whoever
-- comes after a holder that vanished can count the attempt against the right entry.

-- Compares two stream ids without losing digits: both parts as zero-padded text.
local function id_key(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
end

local function serve(entries)
  local n = #entries
  if n == 0 then
    return {}
  end
  redis.call('HSET', KEYS[1], 'serving', entries[1][1] .. ' ' .. entries[n][1] .. ' ' .. n)
  return entries
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

-- A slot of a pool: first what this slot still owes, then one new entry. Entries that were deleted under the
-- slot are taken off its list. One entry a turn.
local function deliver_slot(stream, slot)
  for _ = 1, 100 do
    local mine = redis.call('XREADGROUP', 'GROUP', 'pool', slot, 'COUNT', 1, 'STREAMS', stream, '0')
    local entry = mine and mine[1] and mine[1][2][1]
    if not entry then
      break
    end
    if entry[2] and #entry[2] > 0 then
      return { entry }
    end
    redis.call('XACK', stream, 'pool', entry[1])
  end
  local fresh = redis.call('XREADGROUP', 'GROUP', 'pool', slot, 'COUNT', 1, 'STREAMS', stream, '>')
  local entry = fresh and fresh[1] and fresh[1][2][1]
  return entry and { entry } or {}
end
