-- Fenced read. KEYS: 1 checkpoint, 2 mailbox, 3 entries that come again later.
-- ARGV: 1 to 4 as in fence.lua, 5 slot ('' for an exclusive unit), 6 count (of a slot: 0 = only what it owes),
--   7 bytes.
-- Answers { 'OK', delivered as 0 or 1, failed, unfinished, reason, packed entries, ms until one comes again }.
--
-- A read that delivers leaves its tip, so that a failover that takes the entries back is seen by the commit that
-- rests on them. A repeat of a read whose answer was lost finds its own tip, and is served nothing: the range may
-- have grown since, and a failover could take the growth back without the tip. It reads again under a fresh one.
--
-- A slot's read first moves back what is due; that much changes also where nothing is delivered.
local refused, ck = fence()
if refused then
  return refused
end
local entries, broken = nil, wrong_type(KEYS[2], 'stream', 'a stream')
if broken then
  return broken
end
if ARGV[5] == '' then
  entries = deliver_range(KEYS[2], ck[5] or '0-0', ck[6], tonumber(ARGV[6]), tonumber(ARGV[7]))
else
  broken = wrong_type(KEYS[3], 'zset', 'a sorted set') or (ARGV[6] ~= '0' and wake(KEYS[2], KEYS[3]))
  if broken then
    return broken
  end
  entries, broken = deliver_slot(KEYS[2], ARGV[5], ARGV[6] == '0')
  if broken then
    return broken
  end
end
if #entries == 0 then
  return (ARGV[5] == '' and lies_behind(KEYS[2], ck[5] or '0-0')) or 
    { 'OK', '0', '0', '0', '', cmsgpack.pack({}), ARGV[5] ~= '' and next_due(KEYS[3]) or '' }
end
redis.call('HSET', KEYS[1], 'tip', ARGV[4])
local failed, unfinished, fault = attempts(entries)
if ARGV[5] ~= '' then
  -- What it had gone through before it was put off.
  local fields = entries[1][2]
  failed = num(tonumber(failed) + noted(fields, 'later.failed'))
  unfinished = num(tonumber(unfinished) + noted(fields, 'later.unfinished'))
  if fault == '' then fault = note(fields, 'later.fault') or '' end
end
return { 'OK', '1', failed, unfinished, fault, cmsgpack.pack(serve(entries)), '' }
