-- Takes lines back whose transaction appended them and was refused its last step: the script that judges.
-- KEYS: 1 checkpoint, 2 the stream. ARGV: 1 to 4 as in fence.lua, then of each line the id of its entry and its label.
-- Answers { 'OK', taken } or { 'LEFT' }: another holder, or the commit is done after all; nothing has changed.
-- After a failover an id may name another entry, so each is looked at first. A repeat takes nothing more.
local ck = redis.call('HMGET', KEYS[1], 'token', 'owner', 'tip')
if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] or ck[3] == ARGV[4] then
  return { 'LEFT' }
end
local taken = 0
for i = 5, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry and entry[2][1] == ARGV[i + 1] then
    taken = taken + redis.call('XDEL', KEYS[2], ARGV[i])
  end
end
return { 'OK', tostring(taken) }
