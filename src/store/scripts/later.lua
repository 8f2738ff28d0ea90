-- Entries of a pool that come again later: a sorted set by server milliseconds, whose members are the fields of an entry,
-- packed. The notes `later.*` among them carry what the new id would lose: the first id, how often it was put off, and
-- its attempts. An entry is in the stream or in the set, never in both.

-- The longest delay. What lies farther away was put there by a clock that has gone back since: due.
local DELAY_MAX_MS = 300000
-- Entries that one read moves back.
local WAKES_MAX = 20
-- Of an entry with more names and values only those that every message may have are kept.
local KEPT_MAX = 3900
local KEPT = { type = true, body = true, id = true, traceparent = true }

local function note(fields, name)
  for f = 1, #fields, 2 do
    if fields[f] == name then return fields[f + 1] end
  end
end

-- A count in a note; foreign entries may hold anything there.
local function noted(fields, name)
  local text = note(fields, name) or ''
  return string.match(text, '^%d+$') and #text <= 6 and tonumber(text) or 0
end

-- The member for an entry that is put off, with another type and body, and the attempts so far.
local function put_off(entry, kind, body, past)
  local old, fields, seen = entry[2], {}, {}
  for f = 1, #old, 2 do
    local name, value = old[f], old[f + 1]
    local kept = KEPT[name] or #old <= KEPT_MAX
    if kept and string.sub(name, 1, 6) ~= 'later.' and not (seen[name] and (name == 'type' or name == 'body')) then
      seen[name] = true
      if name == 'type' then value = kind elseif name == 'body' then value = body end
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if not seen.type then add('type', kind) end
  if not seen.body then add('body', body) end
  add('later.first', note(old, 'later.first') or entry[1])
  add('later.times', num(noted(old, 'later.times') + 1))
  add('later.failed', num(noted(old, 'later.failed') + past.failed))
  add('later.unfinished', num(noted(old, 'later.unfinished') + past.unfinished))
  local fault = past.fault ~= '' and past.fault or note(old, 'later.fault') or ''
  if fault ~= '' then add('later.fault', fault) end
  return cmsgpack.pack(fields)
end

-- Moves what is due back to the end of the stream. Answers BROKEN, or nothing.
local function wake(stream, later)
  local now = now_ms()
  local due = redis.call('ZRANGEBYSCORE', later, '-inf', num(now), 'LIMIT', 0, WAKES_MAX)
  if #due == 0 then
    due = redis.call('ZRANGEBYSCORE', later, '(' .. num(now + DELAY_MAX_MS), '+inf', 'LIMIT', 0, WAKES_MAX)
  end
  for _, member in ipairs(due) do
    local ok, fields = pcall(cmsgpack.unpack, member)
    if not ok or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 or #fields > KEPT_MAX + 20 then
      -- Nothing of ours wrote it. It cannot be read as a message either, and is set aside as such.
      fields = { 'later.unreadable', member }
    end
    local added = redis.pcall('XADD', stream, '*', unpack(fields))
    if type(added) == 'table' then return { 'BROKEN', stream, added.err } end
    redis.call('ZREM', later, member)
  end
end

-- Milliseconds until the next one is due; '' where there is none.
local function next_due(later)
  local first = redis.call('ZRANGEBYSCORE', later, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return first[2] and num(math.max(tonumber(first[2]) - now_ms(), 0)) or ''
end
