-- Interval sets: a sorted set by lowest height. Members: held 'lo hi parent_of_lo hash_of_hi', parked 'lo hi reason'.
-- Nothing is written while planning: `plan` is an overlay that later steps of the same commit see, so that a reorg
-- (remove, then merge) is judged as a whole, and a refusal leaves nothing behind. Only neighbours are read.
local plans = {}

local function parse(member)
  local lo, hi, rest = string.match(member, '^(%d+) (%d+) (.*)$')
  return { lo = tonumber(lo), hi = tonumber(hi), rest = rest, member = member }
end

local function plan_of(key)
  if not plans[key] then plans[key] = { add = {}, del = {} } end
  return plans[key]
end

-- The interval with the greatest lo <= h (up = false) or the least lo >= h (up = true), the overlay included.
local function neighbour(key, h, up)
  local plan, best, skip = plan_of(key), nil, 0
  while true do
    local found
    if up then
      found = redis.call('ZRANGEBYSCORE', key, num(h), '+inf', 'LIMIT', skip, 1)[1]
    else
      found = redis.call('ZREVRANGEBYSCORE', key, num(h), '-inf', 'LIMIT', skip, 1)[1]
    end
    if not found then break end
    if not plan.del[found] then
      best = parse(found)
      break
    end
    skip = skip + 1
  end
  for _, iv in pairs(plan.add) do
    if up and iv.lo >= h and (not best or iv.lo < best.lo) then best = iv end
    if not up and iv.lo <= h and (not best or iv.lo > best.lo) then best = iv end
  end
  return best
end

local function drop(key, iv)
  local plan = plan_of(key)
  if plan.add[iv.member] then
    plan.add[iv.member] = nil
  else
    plan.del[iv.member] = true
  end
end

local function put(key, lo, hi, rest)
  local plan = plan_of(key)
  local member = num(lo) .. ' ' .. num(hi) .. ' ' .. rest
  -- Taking an interval away and putting the same one back is no change at all.
  if plan.del[member] then
    plan.del[member] = nil
    return
  end
  plan.add[member] = { lo = lo, hi = hi, rest = rest, member = member }
end

-- Takes lo..hi out of a set whose members may be cut anywhere (the parked ones).
local function cut(key, lo, hi)
  local from = hi
  while from >= lo do
    local iv = neighbour(key, from, false)
    if not iv or iv.hi < lo then return end
    drop(key, iv)
    if iv.lo < lo then put(key, iv.lo, lo - 1, iv.rest) end
    if iv.hi > hi then put(key, hi + 1, iv.hi, iv.rest) end
    -- Looking on below it, so that what was dropped is not passed again for each that follows.
    from = iv.lo - 1
  end
end

-- Adds lo..hi to the held set. Each held neighbour that it touches must agree on the link between them.
-- Answers nil, or why not. Doing it twice is no change; what is held under another hash or parent, as far as the
-- interval's edges tell, is an OVERLAP: the caller must remove it first (a reorg), or think again.
local function merge(held, parked, lo, hi, parent, hash)
  local below, above = neighbour(held, lo, false), neighbour(held, lo, true)
  if below and below.hi >= hi then
    local p, h = string.match(below.rest, '^(%S+) (%S+)$')
    if (below.lo == lo and p ~= parent) or (below.hi == hi and h ~= hash) then
      return { 'OVERLAP', num(lo), num(hi) }
    end
    return nil
  end
  if (below and below.hi >= lo) or (above and above.lo <= hi) then
    return { 'OVERLAP', num(lo), num(hi) }
  end
  local new_lo, new_hi, new_parent, new_hash = lo, hi, parent, hash
  if below and below.hi + 1 == lo then
    local p, h = string.match(below.rest, '^(%S+) (%S+)$')
    if h ~= parent then return { 'LINK', num(lo - 1), num(lo), h, parent } end
    new_lo, new_parent = below.lo, p
    drop(held, below)
  end
  if above and above.lo == hi + 1 then
    local p, h = string.match(above.rest, '^(%S+) (%S+)$')
    if p ~= hash then return { 'LINK', num(hi), num(hi + 1), hash, p } end
    new_hi, new_hash = above.hi, h
    drop(held, above)
  end
  put(held, new_lo, new_hi, new_parent .. ' ' .. new_hash)
  cut(parked, lo, hi)
  return nil
end

-- Takes lo..hi out of the held set. `below` is the hash of lo - 1 and `above` the parent link of hi + 1; each is
-- needed only where an interval is cut there. Heights that are not held are no error.
local function remove(held, lo, hi, below, above)
  local from = hi
  while from >= lo do
    local iv = neighbour(held, from, false)
    if not iv or iv.hi < lo then return nil end
    local p, h = string.match(iv.rest, '^(%S+) (%S+)$')
    if (iv.lo < lo and below == '') or (iv.hi > hi and above == '') then
      return { 'OVERLAP', num(iv.lo), num(iv.hi) }
    end
    drop(held, iv)
    if iv.lo < lo then put(held, iv.lo, lo - 1, p .. ' ' .. below) end
    if iv.hi > hi then put(held, hi + 1, iv.hi, above .. ' ' .. h) end
    from = iv.lo - 1
  end
end

-- Parks what of lo..hi is not held, under one reason; an older reason gives way.
local function park(held, parked, lo, hi, reason)
  cut(parked, lo, hi)
  local from = lo
  while from <= hi do
    local iv = neighbour(held, from, false)
    if iv and iv.hi >= from then
      from = iv.hi + 1
    else
      local next_iv = neighbour(held, from, true)
      local to = (next_iv and next_iv.lo <= hi) and next_iv.lo - 1 or hi
      put(parked, from, to, reason)
      from = to + 1
    end
  end
end

-- The lowest height of lo..hi that is neither held, parked nor in `resent` (a list of {lo, hi}); nil where all are.
local function uncovered(held, parked, lo, hi, resent)
  local at = lo
  while at <= hi do
    local past = nil
    for _, key in ipairs({ held, parked }) do
      local iv = neighbour(key, at, false)
      if iv and iv.hi >= at then past = iv.hi + 1 end
    end
    for _, r in ipairs(resent) do
      if not past and r[1] <= at and at <= r[2] then past = r[2] + 1 end
    end
    if not past then return num(at) end
    at = past
  end
  return nil
end

local function write_plans()
  for key, plan in pairs(plans) do
    for member in pairs(plan.del) do redis.call('ZREM', key, member) end
    for member, iv in pairs(plan.add) do redis.call('ZADD', key, num(iv.lo), member) end
  end
end
