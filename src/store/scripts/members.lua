-- A node says that it lives, and sees who else does. `key` is a hash: node incarnation -> 'expiry ttl json'.
-- An empty incarnation only looks; a ttl of '0' leaves. Answers { now ms, json, json... } of the live ones.
local function members(key, incarnation, ttl, json)
  local now = now_ms()
  if ttl == '0' then
    redis.call('HDEL', key, incarnation)
  elseif incarnation ~= '' then
    redis.call('HSET', key, incarnation, num(now + tonumber(ttl)) .. ' ' .. ttl .. ' ' .. json)
  end
  local out, all = { num(now) }, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local at, was, kept = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
    at, was = tonumber(at), tonumber(was)
    if at and at > now and at - now <= was then
      out[#out + 1] = kept
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return out
end
