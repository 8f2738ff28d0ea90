-- Gives a lease back, so that the heir need not wait. KEYS: 1 checkpoint, 2 expiry. ARGV: 1 token, 2 owner.
-- What was being served counts as no attempt. A repeat finds no owner and answers FENCED, which is as good.
local ck = redis.call('HMGET', KEYS[1], 'token', 'owner')
if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] then
  return { 'FENCED', ck[1] or '', ck[2] or '' }
end
redis.call('HSET', KEYS[1], 'owner', '', 'serving', '')
redis.call('DEL', KEYS[2])
return { 'OK' }
