-- Who lives, apart from a beat. KEYS: 1 members. ARGV: 1 incarnation, 2 ttl ms, 3 json; answer as in members.lua.
return members(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
