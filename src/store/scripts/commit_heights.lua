-- The part of a commit that knows the held and parked heights. Interval effects are planned in an overlay.
local covers = {}
local sets = {}

local function intervals_or_broken(key)
  if sets[key] then return nil end
  sets[key] = true
  return wrong_type(key, 'zset', 'a sorted set')
end

-- held, parked, lo, hi, parent of lo, hash of hi
function judge.merge(at)
  local held, parked = KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])]
  return intervals_or_broken(held) or intervals_or_broken(parked)
    or merge(held, parked, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5])
end

-- held, lo, hi, hash of lo - 1, parent link of hi + 1
function judge.remove(at)
  local held = KEYS[tonumber(ARGV[at])]
  return intervals_or_broken(held)
    or remove(held, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4])
end

-- held, parked, lo, hi, reason
function judge.park(at)
  local held, parked = KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])]
  local broken = intervals_or_broken(held) or intervals_or_broken(parked)
  if broken then return broken end
  park(held, parked, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4])
end

-- parked, lo, hi
function judge.unpark(at)
  local parked = KEYS[tonumber(ARGV[at])]
  local broken = intervals_or_broken(parked)
  if broken then return broken end
  cut(parked, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
end

-- held, parked, lo, hi, then lo and hi of each range sent on: nothing of a task may be silently absent.
-- Judged after all other effects, wherever it stands among them.
function judge.cover(at, count)
  local held, parked, resent = KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])], {}
  for i = at + 4, at + count - 1, 2 do
    resent[#resent + 1] = { tonumber(ARGV[i]), tonumber(ARGV[i + 1]) }
  end
  covers[#covers + 1] = { held, parked, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), resent }
  return intervals_or_broken(held) or intervals_or_broken(parked)
end

checks[#checks + 1] = function()
  for _, c in ipairs(covers) do
    local height = uncovered(unpack(c))
    if height then return { 'UNCOVERED', height } end
  end
end
writes[#writes + 1] = write_plans
