-- Trims an output. KEYS: 1 checkpoint of the unit that asks, 2 the stream, 3 facts, then the checkpoints of the units
-- that read it by their offset. ARGV: 1 token, 2 owner (as in fence.lua)   3 'acknowledged' or 'newest'
--   4 entries that stay in any case where the newest do   5 at most so many leave in one run   6 the output's name,
--   then for each of those units: its name, and the field of the facts that counts what it has missed
-- Answers { 'OK', left now, entries that stay, 1 if more may leave, who needs the oldest of them ('' nobody),
-- dropped so far, of these not acknowledged by all } or FENCED, BROKEN.
--
-- What everybody acknowledged is found and trimmed in one step, so no offset that counts can go back in between: a
-- failover takes back both. A repeat trims what may leave by then.
local ck = redis.call('HMGET', KEYS[1], 'token', 'owner')
if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] then
  return { 'FENCED', ck[1] or '', ck[2] or '' }
end
local stream, facts, most = KEYS[2], KEYS[3], tonumber(ARGV[5])
local broken, kind = wrong_type(stream, 'stream', 'a stream')
if broken then return broken end

local function plus_one(digits)
  local nines = #string.match(digits, '9*$')
  local rest = string.sub(digits, 1, #digits - nines)
  if rest == '' then return '1' .. string.rep('0', nines) end
  return string.sub(rest, 1, -2) .. (string.byte(rest, -1) - 47) .. string.rep('0', nines)
end

-- The id just behind; as text, for Lua's numbers hold no 64 bits.
local function behind(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if seq == '18446744073709551615' then return plus_one(ms) .. '-0' end
  return ms .. '-' .. plus_one(seq)
end

-- The lowest id that somebody has not acknowledged, and who.
local lowest, holder

local function needs(id, who)
  if not lowest or id_key(id) < id_key(lowest) then lowest, holder = id, who end
end

-- The lowest entry that a group was served and has not acknowledged; entries that exist no more hold nobody up. Of a
-- hundred that are gone it is only known that what is needed lies behind them.
local function owed(group)
  local pending = redis.call('XPENDING', stream, group, '-', '+', 100)
  for _, entry in ipairs(pending) do
    if #redis.call('XRANGE', stream, entry[1], entry[1]) > 0 then return entry[1] end
  end
  return #pending == 100 and behind(pending[100][1])
end

for _, row in ipairs(kind == 'none' and {} or redis.call('XINFO', 'GROUPS', stream)) do
  local group = {}
  for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
  local through = group['last-delivered-id']
  needs(tonumber(group['pending']) > 0 and owed(group['name']) or behind(through), 'group ' .. group['name'])
end
-- Of each unit that reads by its offset: the lowest id that it needs, and where it is counted what it has missed.
local followers = {}
for i = 4, #KEYS do
  local from = behind(redis.call('HGET', KEYS[i], 'offset') or '0-0')
  needs(from, ARGV[7 + 2 * (i - 4)])
  followers[#followers + 1] = { from = from, missed = ARGV[8 + 2 * (i - 4)] }
end

-- Of the `count` oldest entries those from the id `from` on; all of them where there is no such id.
local function from_on(from, count)
  if not from then return count end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if id_key(from) <= id_key(first[1]) then return count end
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if id_key(from) > id_key(last[1]) then return 0 end
  local needed = 0
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', count)) do
    if id_key(entry[1]) >= id_key(from) then needed = needed + 1 end
  end
  return needed
end

local left, length, more = 0, redis.call('XLEN', stream), '0'
local dropped, lost = 'dropped.' .. ARGV[6], 'dropped_unread.' .. ARGV[6]
if ARGV[3] == 'acknowledged' and lowest then
  -- Whole nodes first, which is cheap; then the part of one.
  left = redis.call('XTRIM', stream, 'MINID', '~', lowest, 'LIMIT', most)
  if left > 0 then more = '1' else left = redis.call('XTRIM', stream, 'MINID', lowest) end
else
  -- With nobody to acknowledge anything the newest stay: else a full stream would stand still for ever.
  local over = length - tonumber(ARGV[4])
  if over > 0 then
    local count = math.min(over, most)
    local needed = from_on(lowest, count)
    for _, follower in ipairs(followers) do
      local missed = from_on(follower.from, count)
      if missed > 0 then redis.call('HINCRBY', facts, follower.missed, missed) end
    end
    left = redis.call('XTRIM', stream, 'MAXLEN', length - count)
    redis.call('HINCRBY', facts, dropped, left)
    redis.call('HINCRBY', facts, lost, needed)
    if over > count then more = '1' end
  end
end
local so_far = redis.call('HMGET', facts, dropped, lost)
return { 'OK', num(left), num(length - left), more, holder or '', so_far[1] or '0', so_far[2] or '0' }
