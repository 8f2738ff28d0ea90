-- Renews a node's leases in one pipeline and shows all of its units. KEYS: checkpoint, expiry of each unit in turn.
-- ARGV: 1 lease ms, then token and owner of each unit ('' where the caller does not hold it).
-- Answers for each unit { renewed as 0 or 1, milliseconds until it is free, owner, node, token, tip }; the holder
-- compares owner, token and tip with its memory, so that an idle unit too learns of a rollback.
local now, ttl, out = now_ms(), tonumber(ARGV[1]), {}
for u = 1, #KEYS / 2 do
  -- A checkpoint of another type looks like none: its own unit's next request tells, the others keep their leases.
  local ck = redis.pcall('HMGET', KEYS[2 * u - 1], 'token', 'owner', 'tip', 'node')
  local token, owner, renewed, left = ARGV[2 * u], ARGV[2 * u + 1], '0', 0
  if owner ~= '' and ck[1] == token and ck[2] == owner then
    redis.call('SET', KEYS[2 * u], num(now + ttl) .. ' ' .. ARGV[1])
    renewed, left = '1', ttl
  elseif ck[2] and ck[2] ~= '' then
    left = lease_left(KEYS[2 * u], now)
  end
  out[u] = { renewed, num(left), ck[2] or '', ck[4] or '', ck[1] or '', ck[3] or '' }
end
return out
