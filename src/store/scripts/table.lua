-- One page of the table of a unit, under its tip. KEYS: 1 checkpoint, 2 table. ARGV: 1 to 4 as in fence.lua, of which
-- the last is no tip ('-'), 5 cursor, 6 rows about so many.
-- Answers { 'OK', cursor of the next page or '0', { row, value, ... } } or FENCED, MOVED, BROKEN. Nothing changes.
local refused = fence()
if refused then
  return refused
end
local broken = wrong_type(KEYS[2], 'hash', 'a hash')
if broken then
  return broken
end
local page = redis.call('HSCAN', KEYS[2], ARGV[5], 'COUNT', ARGV[6])
return { 'OK', page[1], page[2] }
