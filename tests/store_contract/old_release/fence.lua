-- Shared by every script that a holder sends. A checkpoint is the hash KEYS[1]; ARGV starts with
--   1 token   2 owner (incarnation)   3 base (the tip that the decision rests on)   4 new (the tip to leave)
-- Answers nil where the holder may go on.
local function fence()
  local ck = redis.call('HMGET', KEYS[1], 'token', 'owner', 'tip', 'seq', 'offset', 'careful')
  if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] then
    return { 'FENCED', ck[1] or '', ck[2] or '' }, ck
  end
  if ck[3] == ARGV[4] then
    return { 'DUP', ck[4] or '0' }, ck
  end
  if ck[3] ~= ARGV[3] then
    return { 'MOVED', ck[3] or '', ck[4] or '0' }, ck
  end
  return nil, ck
end

-- The server's clock: the only one that counts.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function num(n)
  return string.format('%.0f', n)
end

-- Milliseconds that a lease written as 'expiry ttl' still holds; 0 where it is free, missing or unreadable. An expiry
-- farther away than its own lease time was written by a clock that has gone back since: free.
local function lease_left(key, now)
  local at, was = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  at, was = tonumber(at), tonumber(was)
  if at and at > now and at - now <= was then return at - now end
  return 0
end

-- BROKEN where a key exists and is not what it should be; else nil, and whether it is 'none' or what it should be.
local function wrong_type(key, want, words)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= want then
    return { 'BROKEN', key, 'it is a ' .. kind .. ', not ' .. words }
  end
  return nil, kind
end
