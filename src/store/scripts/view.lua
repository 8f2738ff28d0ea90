-- The seed's two keys, written as a whole. KEYS: 1 checkpoint, 2 list of heights, 3 gaps, 4 count of the other gaps.
-- ARGV: 1 token, 2 owner, 3 gaps (JSON), 4 count, then lowest and highest height of each range, newest range first.
-- Answers { 'OK' }, FENCED or BROKEN. A repeat writes the same once more.
local ck = redis.call('HMGET', KEYS[1], 'token', 'owner')
if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] then
  return { 'FENCED', ck[1] or '', ck[2] or '' }
end
local broken = wrong_type(KEYS[2], 'list', 'a list') or wrong_type(KEYS[3], 'string', 'a string')
  or wrong_type(KEYS[4], 'string', 'a string')
if broken then
  return broken
end
redis.call('DEL', KEYS[2])
local batch = {}
for i = 5, #ARGV, 2 do
  for height = tonumber(ARGV[i + 1]), tonumber(ARGV[i]), -1 do
    batch[#batch + 1] = num(height)
    -- Lua hands at most some 8,000 values to a command.
    if #batch == 4000 then
      redis.call('RPUSH', KEYS[2], unpack(batch))
      batch = {}
    end
  end
end
if #batch > 0 then redis.call('RPUSH', KEYS[2], unpack(batch)) end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('SET', KEYS[4], ARGV[4])
return { 'OK' }
