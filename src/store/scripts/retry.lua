-- Moves dead letters back to the end of their mailbox. KEYS: 1 dead letters, 2 mailbox, 3 parked heights,
-- 4 entries that come again later.
-- ARGV: 1 capacity of the mailbox   2 how the reason begins under which a task's heights were parked
--   3 intervals that may be looked at   then for each letter: id, lowest and highest height of its task ('' = no task)
-- Answers { 'OK', moved, gone, why it stopped, height } or BROKEN: nothing has changed. It stopped because all were
-- dealt with (''), because the mailbox is 'full', or because there is 'more' than one run may look at: ask again for
-- the rest, and for the first of them from `height` downwards ('' = its whole task).
--
-- A letter leaves and its entry comes in the same run, so a repeat finds the letter gone and moves nothing twice. The
-- entry keeps its fields, the dedupe id among them; what was noted about its death goes, and so do its attempts, which
-- count for an id that it no longer has. Heights that were parked because the task was set aside are let go.
local dead, mailbox, parked = KEYS[1], KEYS[2], KEYS[3]
local broken = wrong_type(dead, 'stream', 'a stream') or wrong_type(mailbox, 'stream', 'a stream')
  or wrong_type(parked, 'zset', 'a sorted set') or wrong_type(KEYS[4], 'zset', 'a sorted set')
if broken then
  return broken
end
local capacity, mark, left = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- Lets go what of lo..hi was parked under the mark, from the top. Answers the height to go on from where there are too
-- many intervals for one run, whoever parked them.
local function let_go(lo, hi)
  local from = hi
  while from >= lo do
    local iv = neighbour(parked, from, false)
    if not iv or iv.hi < lo then return nil end
    if left == 0 then return from end
    left = left - 1
    local reason = string.match(iv.rest, '^@%d+ (.*)$') or iv.rest
    if string.sub(reason, 1, #mark) == mark then
      drop(parked, iv)
      if iv.lo < lo then put(parked, iv.lo, lo - 1, iv.rest) end
      if iv.hi > hi then put(parked, hi + 1, iv.hi, iv.rest) end
    end
    from = iv.lo - 1
  end
  return nil
end

local function entry_of(fields)
  local entry = {}
  for f = 1, #fields, 2 do
    if string.sub(fields[f], 1, 5) ~= 'dead.' and string.sub(fields[f], 1, 6) ~= 'later.' then
      entry[#entry + 1] = fields[f]
      entry[#entry + 1] = fields[f + 1]
    end
  end
  return entry
end

local length, moved, gone, stopped, rest = redis.call('XLEN', mailbox) + redis.call('ZCARD', KEYS[4]), 0, 0, '', ''
for at = 4, #ARGV, 3 do
  local id, lo, hi = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local letter = redis.call('XRANGE', dead, id, id)[1]
  if not letter then
    gone = gone + 1
  else
    if length >= capacity then
      stopped = 'full'
      break
    end
    local above = lo and let_go(lo, hi)
    if above then
      stopped, rest = 'more', num(above)
      break
    end
    local entry = entry_of(letter[2])
    -- A foreign letter of notes alone; it cannot be read, and will be told so again.
    if #entry == 0 then entry = { 'type', '' } end
    local added = redis.pcall('XADD', mailbox, '*', unpack(entry))
    if type(added) == 'table' then
      -- Those before it are through; the next run meets this one first, and tells.
      if moved == 0 then return { 'BROKEN', mailbox, added.err } end
      stopped = 'more'
      break
    end
    redis.call('XDEL', dead, id)
    moved, length = moved + 1, length + 1
  end
end
write_plans()
return { 'OK', num(moved), num(gone), stopped, rest }
