-- The part of a commit that changes the table of its unit: a hash of records beside the checkpoint.
-- Each table: how many rows it has, and had before this commit, and what becomes of its rows.
local tables = {}

local function table_of(key, names)
  local broken = wrong_type(key, 'hash', 'a hash') or wrong_type(names, 'hash', 'a hash')
  if broken then return nil, broken end
  local rows = tables[key]
  if not rows then
    local had = redis.call('HLEN', key)
    rows = { names = names, had = had, has = had, there = {}, set = {}, order = {} }
    tables[key] = rows
  end
  return rows
end

-- table, the list of tables, this one's name there, rows that it may hold, row, its value ('' = it is dropped)
function judge.row(at)
  local key, row, value = KEYS[tonumber(ARGV[at])], ARGV[at + 4], ARGV[at + 5]
  local rows, broken = table_of(key, KEYS[tonumber(ARGV[at + 1])])
  if broken then return broken end
  local there = rows.there[row]
  if there == nil then
    there = redis.call('HEXISTS', key, row) == 1
    rows.order[#rows.order + 1] = row
  end
  rows.has = rows.has + (value ~= '' and 1 or 0) - (there and 1 or 0)
  rows.there[row], rows.set[row], rows.name = value ~= '', value, ARGV[at + 2]
  if value ~= '' then rows.capacity = tonumber(ARGV[at + 3]) end
end

-- A table grows to its capacity and no further; what it has already may always change.
checks[#checks + 1] = function()
  for key, rows in pairs(tables) do
    if rows.has > rows.had and rows.has > rows.capacity then return { 'FULL', key } end
  end
end

-- An empty table is none: it leaves the list of those that there are.
writes[#writes + 1] = function()
  for key, rows in pairs(tables) do
    for _, row in ipairs(rows.order) do
      local value = rows.set[row]
      if value == '' then redis.call('HDEL', key, row) else redis.call('HSET', key, row, value) end
    end
    if rows.has > 0 and rows.had == 0 then redis.call('HSET', rows.names, rows.name, '1') end
    if rows.has == 0 and rows.had > 0 then redis.call('HDEL', rows.names, rows.name) end
  end
end
