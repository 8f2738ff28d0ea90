-- Writes down what a pipeline is configured to be. KEYS: 1 pipeline facts.
-- ARGV: 1 digest, 2 the generation that the caller has seen ('0' = none), 3 the keys with their values (JSON), 4 node.
-- Answers { 'SAME', generation } where the digest stands there already, { 'WRITTEN', generation } where it stands there
-- now, or { 'OTHER', generation, digest, keys, node } where another one was written since the caller looked.
--
-- A repeat finds its own digest: SAME. Of two that write at once one wins, and the other one sees it.
local broken = wrong_type(KEYS[1], 'hash', 'a hash')
if broken then
  return broken
end
local facts = redis.call('HMGET', KEYS[1], 'config', 'config_generation', 'config_keys', 'config_node')
local generation = facts[2] or '0'
if facts[1] == ARGV[1] then
  return { 'SAME', generation }
end
if generation ~= ARGV[2] then
  return { 'OTHER', generation, facts[1] or '', facts[3] or '', facts[4] or '' }
end
generation = num(tonumber(generation) + 1)
redis.call('HSET', KEYS[1], 'config', ARGV[1], 'config_generation', generation, 'config_keys', ARGV[3],
  'config_node', ARGV[4])
return { 'WRITTEN', generation }
