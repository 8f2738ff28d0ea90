-- The regular exchange of a node: its leases renewed, its units and their mailboxes seen, who lives, which Redis this is.
-- KEYS: where ARGV[2] is '1' members and cluster id; then of each unit checkpoint, expiry and, unless its slot is '-',
--   mailbox and, for a slot of a pool, entries that come again later.
-- ARGV: 1 lease ms   2 '1' or '0': whether members and cluster are asked for   3 incarnation   4 json
--   then of each unit token, owner ('' where the caller does not hold it), slot ('' exclusive, '-' no look at its mail)
-- Answers { cluster id, members as in members.lua, { unit... } }, a unit being { renewed as 0 or 1, milliseconds until
-- it is free, owner, node, token, tip, last id of its mailbox, 1 if something waits there for it }. The holder compares
-- owner, token and tip with its memory, so that an idle unit too learns of a rollback, and the last id with the one it
-- was woken for, so that a lost wake-up is made good.

-- The last id of a mailbox, and whether the unit should read it. Nothing of an entry but its id leaves this function.
local function mail(stream, later, slot, offset, now)
  -- What is due comes back by a read; the slot that knows when may be gone.
  if later then
    local due = redis.pcall('ZRANGEBYSCORE', later, '-inf', num(now), 'LIMIT', 0, 1)
    if due.err or due[1] then return last_id(stream), '1' end
  end
  local length = redis.pcall('XLEN', stream)
  -- A key of another type: the unit's own read tells what is the matter.
  if type(length) ~= 'number' then return '0-0', '1' end
  if length == 0 then
    local last = last_id(stream)
    -- Nothing waits. A stream that never reached the offset is BROKEN, which the unit's read tells as well.
    return last, (slot == '' and id_key(last) < id_key(offset)) and '1' or '0'
  end
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1]
  -- What an exclusive unit is through with is trimmed, or stays because others read there too. An id below the offset
  -- is for its read to tell.
  if slot == '' then return last, last ~= offset and '1' or '0' end
  -- In a pool acknowledging deletes, so an entry above every pending one is for any slot, and the others are somebody's.
  local pool = redis.pcall('XPENDING', stream, 'pool')
  if pool.err or not pool[3] or id_key(last) > id_key(pool[3]) then return last, '1' end
  for _, owing in ipairs(pool[4]) do
    if owing[1] == slot then return last, '1' end
  end
  return last, '0'
end

local now, ttl, units = now_ms(), tonumber(ARGV[1]), {}
local k = ARGV[2] == '1' and 2 or 0
for a = 5, #ARGV, 3 do
  local expiry, token, owner, slot = KEYS[k + 2], ARGV[a], ARGV[a + 1], ARGV[a + 2]
  -- A checkpoint of another type looks like none: its own unit's next request tells, the others keep their leases.
  local ck = redis.pcall('HMGET', KEYS[k + 1], 'token', 'owner', 'tip', 'node', 'offset')
  local renewed, left, last, waits = '0', 0, '', '0'
  if owner ~= '' and ck[1] == token and ck[2] == owner then
    redis.call('SET', expiry, num(now + ttl) .. ' ' .. ARGV[1])
    renewed, left = '1', ttl
  elseif ck[2] and ck[2] ~= '' then
    left = lease_left(expiry, now)
  end
  k = k + 2
  if slot ~= '-' then
    k = k + 1
    local stream, later = KEYS[k], nil
    if slot ~= '' then
      k = k + 1
      later = KEYS[k]
    end
    last, waits = mail(stream, later, slot, ck[5] or '0-0', now)
  end
  units[#units + 1] = { renewed, num(left), ck[2] or '', ck[4] or '', ck[1] or '', ck[3] or '', last, waits }
end
-- Leases first: what is the matter with these keys must not cost one.
if ARGV[2] ~= '1' then return { '', {}, units } end
local living = members(KEYS[1], ARGV[3], ARGV[1], ARGV[4])
return { redis.call('GET', KEYS[2]) or '', living, units }
