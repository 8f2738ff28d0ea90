-- Throws dead letters away. KEYS: 1 dead letters. ARGV: their ids. Answers { 'OK', dropped } or BROKEN. A repeat drops
-- nothing more.
local broken = wrong_type(KEYS[1], 'stream', 'a stream')
if broken then
  return broken
end
return { 'OK', num(redis.call('XDEL', KEYS[1], unpack(ARGV))) }
