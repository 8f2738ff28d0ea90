-- Takes a lease, or takes it again. KEYS: 1 checkpoint, 2 expiry, 3 pipeline facts, 4 mailbox, 5 history.
-- ARGV: 1 incarnation   2 the caller's previous incarnation ('' = none)   3 node   4 lease ms   5 tip to leave
--   6 cluster id   7 highest format known   8 slot ('' = exclusive, '-' = no mailbox)
--   9 what became of the previous turn: 'none' or 'failed'   10 its reason   11 history length   12 '1' accepts data loss
--   13 the format that every live node reads   14 digest of the pipeline's configuration ('' = not compared)
-- Answers { 'OK', token, tip, seq, offset, state, node before, failed, unfinished, format to write } or HELD, ALIEN,
-- CONFIG, TOO_OLD, BROKEN.
--
-- A repeat (the owner already is this incarnation) answers the same token and changes nothing.
local facts = redis.call('HMGET', KEYS[3], 'cluster', 'needs', 'config', 'config_generation', 'config_node')
if facts[1] ~= ARGV[6] then
  return { 'ALIEN', facts[1] or '' }
end
-- Where no release has written one down yet, nothing is compared.
if ARGV[14] ~= '' and facts[3] and facts[3] ~= ARGV[14] then
  return { 'CONFIG', facts[4] or '0', facts[5] or '' }
end
local ck = redis.call('HMGET', KEYS[1], 'token', 'owner', 'tip', 'seq', 'offset', 'state', 'node', 'needs', 'serving',
  'head', 'failed', 'unfinished')
-- What a reader must know: of this checkpoint, and of the messages that any unit of the pipeline may have sent.
local needs = math.max(tonumber(ck[8] or '1'), tonumber(facts[2] or '1'))
local format = math.max(needs, tonumber(ARGV[13]))
local function granted(token, tip, failed, unfinished)
  return { 'OK', token, tip, ck[4] or '0', ck[5] or '0-0', ck[6] or '', ck[7] or '', failed, unfinished, num(format) }
end
if ck[2] == ARGV[1] then
  return granted(ck[1], ck[3], ck[11] or '0', ck[12] or '0')
end
if needs > tonumber(ARGV[7]) then
  return { 'TOO_OLD', num(needs) }
end
local now, ttl = now_ms(), tonumber(ARGV[4])
local mine = ARGV[2] ~= '' and ck[2] == ARGV[2]
if not mine and ck[2] and ck[2] ~= '' then
  local left = lease_left(KEYS[2], now)
  if left > 0 then
    return { 'HELD', ck[7] or '', num(left) }
  end
end
local broken = wrong_type(KEYS[5], 'list', 'a list') or (ARGV[8] ~= '-' and wrong_type(KEYS[4], 'stream', 'a stream'))
if broken then
  return broken
end
local offset = ck[5] or '0-0'
if ARGV[8] == '' then
  local behind = lies_behind(KEYS[4], offset)
  if behind and ARGV[12] ~= '1' then
    return behind
  end
  if behind then offset = '0-0' end
elseif ARGV[8] ~= '-' then
  create_pool(KEYS[4])
end
-- Attempts. A turn of several entries counts against none of them: they are served one by one from now on.
local failed, unfinished, head, fault, careful = ck[11] or '0', ck[12] or '0', ck[10] or '', nil, nil
local first, last, n = string.match(ck[9] or '', '^(%S+) (%S+) (%d+)$')
if first and (not mine or ARGV[9] == 'failed') then
  if n == '1' then
    if head ~= first then head, failed, unfinished = first, '0', '0' end
    if mine then
      failed, fault = num(tonumber(failed) + 1), ARGV[10]
    else
      unfinished = num(tonumber(unfinished) + 1)
    end
  else
    careful = last
  end
end
local us = redis.call('TIME')
local token = num(math.max(tonumber(ck[1] or '0') + 1, us[1] * 1000000 + us[2]))
redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[1], 'tip', ARGV[5], 'node', ARGV[3], 'needs', num(format),
  'serving', '', 'head', head, 'failed', failed, 'unfinished', unfinished, 'offset', offset, 'acquired', num(now))
if format > tonumber(facts[2] or '1') then redis.call('HSET', KEYS[3], 'needs', num(format)) end
if fault then redis.call('HSET', KEYS[1], 'fault', fault) end
if careful then redis.call('HSET', KEYS[1], 'careful', careful) end
redis.call('SET', KEYS[2], num(now + ttl) .. ' ' .. ARGV[4])
redis.call('LPUSH', KEYS[5], cjson.encode({ why = 'acquire', seq = ck[4] or '0', token = token, node = ARGV[3],
  time_ms = num(now), offset = offset, state = ck[6] or '' }))
redis.call('LTRIM', KEYS[5], 0, tonumber(ARGV[11]) - 1)
ck[5] = offset
return granted(token, ARGV[5], failed, unfinished)
