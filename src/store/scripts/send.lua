-- A message from outside. KEYS: 1 mailbox, 2 dedupe window (sorted set: id by server ms), 3 entries that come
-- again later.
-- ARGV: 1 capacity, 2 dedupe id ('' = none), 3 window ms, 4 ids kept at most, then the fields of the entry.
-- Answers { 'OK', id }, { 'DUP' }, { 'FULL', length } or BROKEN.
local broken = wrong_type(KEYS[1], 'stream', 'a stream') or wrong_type(KEYS[2], 'zset', 'a sorted set')
  or wrong_type(KEYS[3], 'zset', 'a sorted set')
if broken then
  return broken
end
local now = now_ms()
if ARGV[2] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', num(now - tonumber(ARGV[3])))
  if redis.call('ZSCORE', KEYS[2], ARGV[2]) then
    return { 'DUP' }
  end
end
local length = redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[3])
if length >= tonumber(ARGV[1]) then
  return { 'FULL', num(length) }
end
local id = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 5))
if type(id) == 'table' then
  return { 'BROKEN', KEYS[1], id.err }
end
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], num(now), ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[4]))
end
return { 'OK', id }
