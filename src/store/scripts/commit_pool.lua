-- The part of a commit that lets the entry of a pool come again later.
-- later, delay ms, type, body: the entry that is acknowledged comes again.
function judge.again(at)
  local later = KEYS[tonumber(ARGV[at])]
  local broken = wrong_type(later, 'zset', 'a sorted set')
  if broken then return broken end
  again = { later = later, delay = math.min(tonumber(ARGV[at + 1]), DELAY_MAX_MS), kind = ARGV[at + 2], body = ARGV[at + 3] }
end

checks[#checks + 1] = function(ck, ack, exclusive)
  if not again then return nil end
  if ack == '' or exclusive then
    return { 'BROKEN', KEYS[2], 'only the entry in hand of a pool can come again later' }
  end
  local entry, past = redis.call('XRANGE', KEYS[2], ack, ack)[1], { failed = 0, unfinished = 0, fault = '' }
  if not entry then
    return { 'MOVED', ck[3] or '', ck[4] or '0' }
  end
  local att = redis.call('HMGET', KEYS[1], 'head', 'failed', 'unfinished', 'fault')
  if att[1] == ack then
    past = { failed = tonumber(att[2] or '0'), unfinished = tonumber(att[3] or '0'), fault = att[4] or '' }
  end
  again.member = put_off(entry, again.kind, again.body, past)
end
