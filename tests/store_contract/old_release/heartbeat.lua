-- A node says that it lives, and sees who else does. KEYS: 1 members (hash: node incarnation -> 'expiry ttl json').
-- ARGV: 1 incarnation, 2 ttl ms ('0' = leave), 3 json. Answers { now ms, json, json... } of the live ones.
local now = now_ms()
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], num(now + tonumber(ARGV[2])) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
end
local out, all = { num(now) }, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, was, json = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
  at, was = tonumber(at), tonumber(was)
  if at and at > now and at - now <= was then
    out[#out + 1] = json
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return out
