-- The one commit. Its parts: what every commit may do (here), the heights of a chain (commit_heights.lua), entries of a
-- pool that come again (commit_pool.lua). Run by `return commit(14)`, or, for lines, by commit_lines.lua.
-- KEYS: 1 checkpoint, 2 mailbox, 3 history, then the keys that effects name by number.
-- ARGV: 1 to 4 as in fence.lua
--   5 new state ('' = as it is)            6 acknowledge up to this entry id ('' = nothing)
--   7 the id behind it, for the trim ('' = others read there too: nothing is trimmed)   8 entries acknowledged
--   9 slot ('' = exclusive, '-' = no mailbox)
--   10 deliver at most so many entries (0 = none)   11 and so many bytes
--   12 history interval ms   13 history length
--   14 effects that follow, each: name, number of arguments, arguments
-- Answers FENCED, DUP, MOVED, FULL key, LINK, OVERLAP, UNCOVERED height, BROKEN key reason: nothing has changed;
-- or { 'OK', seq, failed, unfinished, reason, entries }. A DUP delivers nothing: what follows it is a fenced read with
-- a tip of its own.
--
-- Judge everything, write nothing: one function an effect, which answers a refusal or notes what is to be done.
local judge = {}
-- What other parts add: `checks` when every effect was judged, each of which may refuse; `writes` when nothing can fail.
local checks, writes = {}, {}
local puts, publishes, grown, again = {}, {}, {}, nil
-- What is appended: the key, and the places of the first and last field in ARGV. Three flat lists, because a table for
-- each of hundreds of entries is a tenth of the time of a commit that sends.
local append_keys, append_from, append_to = {}, {}, {}

-- Lua hands at most some 8,000 values to a command.
local VALUES_MAX = 4000

-- What each target of an append was before: 'none' or 'stream'.
local targets = {}

local function target_or_broken(key)
  if targets[key] then return nil end
  local broken, kind = wrong_type(key, 'stream', 'a stream')
  if broken then return broken end
  targets[key] = kind
  -- After a foreign XADD with the largest id no id can follow. Told here, where nothing has been written yet.
  if kind == 'stream' and #redis.call('XRANGE', key, '18446744073709551615-0', '+', 'COUNT', 1) > 0 then
    return { 'BROKEN', key, 'its last id has the largest possible milliseconds: no append can follow it' }
  end
end

-- key, capacity (0 = none), entries that come again later there (0 = none), entries, then for each: number of fields and
-- values, fields and values.
function judge.send(at)
  local key, capacity, n = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local later = KEYS[tonumber(ARGV[at + 2])]
  local broken = target_or_broken(key)
  if broken then return broken end
  if capacity > 0 and n > 0 then
    local g = grown[key] or { sends = 0, capacity = capacity, later = later }
    g.sends = g.sends + n
    grown[key] = g
  end
  local pos = at + 4
  for _ = 1, n do
    local len = tonumber(ARGV[pos])
    if len > VALUES_MAX or len < 2 then
      return { 'BROKEN', key, 'an entry of ' .. len .. ' names and values cannot be appended' }
    end
    local at = #append_keys + 1
    append_keys[at], append_from[at], append_to[at] = key, pos + 1, pos + len
    pos = pos + len + 1
  end
end

-- key, field, value
function judge.put(at)
  local key = KEYS[tonumber(ARGV[at])]
  local broken = wrong_type(key, 'hash', 'a hash')
  if broken then return broken end
  puts[#puts + 1] = { key, ARGV[at + 1], ARGV[at + 2] }
end

-- channel, payload
function judge.publish(at)
  publishes[#publishes + 1] = { ARGV[at], ARGV[at + 1] }
end

-- Asked once for each channel: a turn may publish hundreds of lines to one. A user without the right to ask or to publish
-- must not make a commit that is done look refused.
local heard, patterns = {}, nil

local function listens(channel)
  if heard[channel] == nil then
    patterns = patterns or redis.pcall('PUBSUB', 'NUMPAT')
    local direct = redis.pcall('PUBSUB', 'NUMSUB', channel)
    heard[channel] = direct.err or direct[2] > 0 or type(patterns) == 'table' or patterns > 0
  end
  return heard[channel]
end

-- Whether the checkpoint has moved: from then on a fault no longer means that nothing has changed.
local is_done = false

-- The whole of it; `at` is the place of the number of effects in ARGV.
local function commit(at)
  local refused, ck = fence()
  if refused then return refused end
  local place = at + 1
  for _ = 1, tonumber(ARGV[at]) do
    local count = tonumber(ARGV[place + 1])
    local answer = judge[ARGV[place]](place + 2, count)
    if answer then return answer end
    place = place + 2 + count
  end

  local ack, exclusive = ARGV[6], ARGV[9] == ''
  if ack ~= '' or exclusive then
    local broken = wrong_type(KEYS[2], 'stream', 'a stream')
    if broken then return broken end
  end
  if ack ~= '' and not exclusive then
    -- Whoever lost the entry to another slot (the group was destroyed and made again) must not finish it as well.
    local pending = redis.pcall('XPENDING', KEYS[2], 'pool', ack, ack, 1, ARGV[9])
    if pending.err or #pending == 0 then
      return { 'MOVED', ck[3] or '', ck[4] or '0' }
    end
  end

  for _, check in ipairs(checks) do
    local answer = check(ck, ack, exclusive)
    if answer then return answer end
  end

  -- Room: what counts is the net growth of each mailbox, and full is judged before the turn.
  for key, g in pairs(grown) do
    local growth = g.sends
    if key == KEYS[2] then growth = growth - tonumber(ARGV[8]) + (again and 1 or 0) end
    local later = growth > 0 and g.later and redis.pcall('ZCARD', g.later) or 0
    if type(later) == 'table' then
      return { 'BROKEN', g.later, later.err }
    end
    if growth > 0 and redis.call('XLEN', key) + later >= g.capacity then
      return { 'FULL', key }
    end
  end

  -- Step 2: append. Redis does not roll back, so a refused append takes the earlier ones with it: no reader has seen
  -- them, and all that may stay is a higher last id of a stream that was there before.
  local done, append, values = {}, redis.pcall, ARGV
  for i = 1, #append_keys do
    local key = append_keys[i]
    local id = append('XADD', key, '*', unpack(values, append_from[i], append_to[i]))
    if type(id) == 'table' and id.err then
      for d = 1, i - 1 do redis.call('XDEL', append_keys[d], done[d]) end
      for target, before in pairs(targets) do
        if before == 'none' then redis.call('DEL', target) end
      end
      return { 'BROKEN', key, id.err }
    end
    done[i] = id
  end

  -- Step 3: what can no longer fail: intervals, acknowledgement, checkpoint, publication.
  for _, write in ipairs(writes) do write() end
  local offset = ck[5] or '0-0'
  if ack ~= '' then
    if exclusive then
      offset = ack
      if ARGV[7] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[7]) end
    else
      redis.call('XACK', KEYS[2], 'pool', ack)
      redis.call('XDEL', KEYS[2], ack)
    end
  end
  local now = now_ms()
  if again then redis.call('ZADD', again.later, num(now + again.delay), again.member) end
  local seq = num(tonumber(ck[4] or '0') + 1)
  local fields = { 'tip', ARGV[4], 'seq', seq, 'offset', offset, 'time', num(now) }
  if ack ~= '' then
    -- The entry under attempt is through.
    for _, f in ipairs({ 'serving', '', 'head', '', 'failed', '0', 'unfinished', '0' }) do fields[#fields + 1] = f end
  end
  if ARGV[5] ~= '' then
    fields[#fields + 1] = 'state'
    fields[#fields + 1] = ARGV[5]
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  is_done = true
  for _, p in ipairs(puts) do redis.call('HSET', p[1], p[2], p[3]) end
  if tonumber(ARGV[12]) > 0 then
    local last = tonumber(redis.call('HGET', KEYS[1], 'sampled') or '0')
    if now - last >= tonumber(ARGV[12]) or last > now then
      local c = redis.call('HMGET', KEYS[1], 'token', 'node', 'state')
      -- Only for people: a history of another type is told by the next acquire and must not undo this commit.
      redis.pcall('LPUSH', KEYS[3], cjson.encode({ why = 'sample', seq = seq, token = c[1], node = c[2],
        time_ms = num(now), offset = offset, state = c[3] or '' }))
      redis.pcall('LTRIM', KEYS[3], 0, tonumber(ARGV[13]) - 1)
      redis.call('HSET', KEYS[1], 'sampled', num(now))
    end
  end
  for _, p in ipairs(publishes) do
    if listens(p[1]) then redis.pcall('PUBLISH', p[1], p[2]) end
  end
  local entries = {}
  if tonumber(ARGV[10]) > 0 and exclusive then
    entries = serve(deliver_range(KEYS[2], offset, ck[6], tonumber(ARGV[10]), tonumber(ARGV[11])))
  end
  local failed, unfinished, fault = attempts(entries)
  return { 'OK', seq, failed, unfinished, fault, cmsgpack.pack(entries) }
end
