-- Fenced read. KEYS: 1 checkpoint, 2 mailbox.
-- ARGV: 1 to 4 as in fence.lua, 5 slot ('' for an exclusive unit), 6 count, 7 bytes.
-- Answers { 'OK', delivered as 0 or 1, failed, unfinished, reason, entries }.
--
-- A read that delivers leaves its tip, so that a failover that takes the entries back is seen by the commit that
-- rests on them. A repeat of a read whose answer was lost finds its own tip and is served again.
local refused, ck = fence()
if refused and refused[1] ~= 'DUP' then
  return refused
end
local entries
if ARGV[5] == '' then
  entries = deliver_range(KEYS[2], ck[5] or '0-0', ck[6], tonumber(ARGV[6]), tonumber(ARGV[7]))
else
  entries = deliver_slot(KEYS[2], ARGV[5])
end
if #entries == 0 then
  return { 'OK', '0', '0', '0', '', {} }
end
redis.call('HSET', KEYS[1], 'tip', ARGV[4])
serve(entries)
local att = redis.call('HMGET', KEYS[1], 'head', 'failed', 'unfinished', 'fault')
if att[1] ~= entries[1][1] then
  return { 'OK', '1', '0', '0', '', entries }
end
return { 'OK', '1', att[2] or '0', att[3] or '0', att[4] or '', entries }
