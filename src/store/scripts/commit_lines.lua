-- The end of a transaction that appends lines: MULTI, one XADD for each line, this script, EXEC. Native appends cost the
-- server a quarter less than those of a script. Nobody has seen them yet, for EXEC is one step: the commit is judged now,
-- and where it is refused exactly these lines are taken back.
-- KEYS: 1 to 3 as in commit.lua, 4 the stream of the lines, then the keys that effects name by number.
-- ARGV: 1 to 13 as in commit.lua
--   14 lines that were appended, at least 1   15 the label of the first of them: the name of its one field
--   16 entries that the stream may hold (0 = no bound)
--   17 what channels begin with ('' = nothing is published)   18 '1': envelopes, not the bytes alone
--   19 levels that follow, each once; then the lines that are not UTF-8, how many and each: its place among the lines,
--   its bytes in base64; then the bytes of lines, how many (none, or those of all) and each; behind them, if there are
--   any, the place of each line's level among the levels, two bytes each; then as commit.lua from 14 on.
-- Answers as commit.lua, and behind an OK the entries of the stream, why lines could not be published ('' = they were, or
-- nobody listens), and '1' where somebody listens: then the next commit hands the bytes over. After a refusal the last id
-- of the stream may be higher, and nothing else has changed.
local STREAM, COUNT = KEYS[4], tonumber(ARGV[14])
local LAST_MS = '18446744073709551615'

local function pairs_of(list)
  local named = {}
  for i = 1, #list, 2 do named[list[i]] = list[i + 1] end
  return named
end

local function remove(ids)
  for from = 1, #ids, 1000 do
    redis.call('XDEL', STREAM, unpack(ids, from, math.min(from + 999, #ids)))
  end
end

-- The newest entries down to the id `lowest`: at most as many as there are lines.
local function newest(lowest)
  return redis.call('XREVRANGE', STREAM, '+', lowest, 'COUNT', COUNT)
end

-- Whether every XADD has appended its line: what fails inside of EXEC stops nothing. Each has the same key and the same
-- user, so all fail or none, but for one case: a stream whose ids run out. Answers BROKEN where some or all have failed,
-- with nothing left of them; else the facts of the stream.
local function appended()
  local broken, kind = wrong_type(STREAM, 'stream', 'a stream')
  if broken then return nil, broken end
  -- Rights are asked again at EXEC; there they may have changed.
  if kind == 'none' or not redis.acl_check_cmd('XADD', STREAM, '*', 'd', '') then
    return nil, { 'BROKEN', STREAM, 'NOPERM this user may not append to it' }
  end
  local info = pairs_of(redis.call('XINFO', 'STREAM', STREAM))
  if string.sub(info['last-generated-id'], 1, #LAST_MS + 1) == LAST_MS .. '-' then
    -- After a foreign XADD with the largest id. No commit ever passes here, so of the entries with such ids those are
    -- ours that begin with our first line.
    local ids = {}
    for place, entry in ipairs(newest(LAST_MS .. '-0')) do
      ids[place] = entry[1]
      if entry[2][1] == ARGV[15] then
        remove(ids)
        break
      end
    end
    return nil, { 'BROKEN', STREAM, 'its last id has the largest possible milliseconds: no append can follow it' }
  end
  return info
end

-- Takes the lines back, and sets right what their coming and going has changed: how many entries were ever added, and
-- the highest id that was deleted, from which groups tell how far they lag.
local function take_back(info)
  local ids = {}
  for place, entry in ipairs(newest('-')) do ids[place] = entry[1] end
  remove(ids)
  local added, deleted = tonumber(info['entries-added']) - COUNT, info['max-deleted-entry-id']
  if added == 0 and tonumber(info['groups']) == 0 then
    redis.call('DEL', STREAM)
  else
    -- An id of 0-0 would be taken for none given.
    if deleted == '0-0' then deleted = '0-1' end
    redis.pcall('XSETID', STREAM, info['last-generated-id'], 'ENTRIESADDED', num(added), 'MAXDELETEDID', deleted)
  end
end

local foreign = 21 + tonumber(ARGV[19])
local handed = foreign + 2 * tonumber(ARGV[foreign - 1])
local is_handed = ARGV[handed] ~= '0'
local effects = handed + 1 + (is_handed and COUNT + 1 or 0)

-- Room, as in a mailbox: full is judged before the turn.
local info
checks[#checks + 1] = function()
  local capacity = tonumber(ARGV[16])
  if capacity > 0 and tonumber(info['length']) - COUNT >= capacity then return { 'FULL', STREAM } end
end

local function envelope(id, level, part, line, base64)
  return '{"id":"' .. id .. '","level":"' .. level .. '","line":' .. cjson.encode(base64 or line) ..
    (base64 and ',"base64":true' or '') .. (part ~= '' and ',"part":"' .. part .. '"' or '') .. '}'
end

-- Tells what is said of line `i`, and its level. What the commit hands over need not be read back: turning an entry into
-- values of Lua takes three times as long as taking its bytes a second time.
local function spoken()
  local values, at, byte = ARGV, handed, string.byte
  if is_handed then
    local places = values[effects - 1]
    return function(i)
      local high, low = byte(places, 2 * i - 1, 2 * i)
      return values[at + i], values[20 + 256 * high + low]
    end
  end
  local base64, is_envelope, lines = {}, ARGV[18] == '1', newest('-')
  for i = foreign, handed - 1, 2 do base64[tonumber(ARGV[i])] = ARGV[i + 1] end
  return function(i)
    local label, line = unpack(lines[#lines + 1 - i][2])
    local id, level, part = string.match(label, '^(%S+) (%S+) ?(%S*)')
    return is_envelope and envelope(id, level, part, line, base64[i]) or line, level
  end
end

-- Publishes the lines in their order, each to the channel of all and to that of its level. Who listens is asked once a
-- channel, not once a line: a sixth of the time of a commit that is listened to. Answers what was the matter, and
-- whether somebody listens.
local function publish()
  local prefix, channels, is_heard = ARGV[17], {}, false
  if prefix == '' then return '', '0' end
  local all = listens(prefix .. 'all') and prefix .. 'all'
  for i = 20, 19 + tonumber(ARGV[19]) do
    local channel = prefix .. ARGV[i]
    channels[ARGV[i]] = listens(channel) and channel
    is_heard = channels[ARGV[i]] or is_heard
  end
  if not (all or is_heard) then return '', '0' end
  local fault, say, line = '', redis.pcall, spoken()
  for i = 1, COUNT do
    local payload, level = line(i)
    local channel = channels[level]
    local told = all and say('PUBLISH', all, payload)
    if type(told) == 'table' then fault = told.err end
    told = channel and say('PUBLISH', channel, payload)
    if type(told) == 'table' then fault = told.err end
  end
  return fault, '1'
end

local function words(fault)
  return type(fault) == 'table' and fault.err or tostring(fault)
end

local broken
info, broken = appended()
if broken then return broken end
local ran, answer = pcall(commit, effects)
if ran and answer[1] == 'OK' then
  local told, fault, heard = pcall(publish)
  answer[7], answer[8], answer[9] = num(tonumber(info['length'])), told and fault or words(fault), told and heard or '1'
  return answer
end
if is_done then error(answer, 0) end
take_back(info)
return ran and answer or { 'BROKEN', STREAM, words(answer) }
