-- Sends a unit back to an earlier place. KEYS: 1 checkpoint, 2 expiry, 3 history, 4 pipeline facts.
-- ARGV: 1 base (the tip of the state that the new one was made from)   2 the tip to leave   3 new state
--   4 node (who does it)   5 cluster id   6 highest format known   7 history length
-- Answers { 'OK', token, seq }, { 'DUP', token, seq }, MOVED, ALIEN, TOO_OLD or BROKEN; only OK has changed anything.
--
-- The token rises as at an acquisition and the lease is given away, so the present holder is fenced, wherever it
-- stands in its turn, and loads the new state. The mailbox offset stays: what was acknowledged is gone.
local cluster = redis.call('HGET', KEYS[4], 'cluster')
if cluster ~= ARGV[5] then
  return { 'ALIEN', cluster or '' }
end
local ck = redis.call('HMGET', KEYS[1], 'token', 'tip', 'seq', 'needs', 'offset', 'state')
if ck[2] == ARGV[2] then
  return { 'DUP', ck[1], ck[3] or '0' }
end
if not ck[1] or ck[2] ~= ARGV[1] then
  return { 'MOVED', ck[2] or '', ck[3] or '0' }
end
if ck[4] and tonumber(ck[4]) > tonumber(ARGV[6]) then
  return { 'TOO_OLD', ck[4] }
end
local broken = wrong_type(KEYS[3], 'list', 'a list')
if broken then
  return broken
end
local us, now = redis.call('TIME'), now_ms()
local token = num(math.max(tonumber(ck[1]) + 1, us[1] * 1000000 + us[2]))
local seq = num(tonumber(ck[3] or '0') + 1)
-- What was being served counts as no attempt: its holder did not vanish.
redis.call('HSET', KEYS[1], 'token', token, 'owner', '', 'tip', ARGV[2], 'seq', seq, 'state', ARGV[3], 'serving', '')
redis.call('DEL', KEYS[2])
-- The sample is what stood before: the new state stands in the checkpoint, and this one can be gone back to.
redis.call('LPUSH', KEYS[3], cjson.encode({ why = 'rewind', seq = ck[3] or '0', token = token, node = ARGV[4],
  time_ms = num(now), offset = ck[5] or '0-0', state = ck[6] or '' }))
redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[7]) - 1)
return { 'OK', token, seq }
