-- Join the journal: which record it ends with, and an id that nothing which touched it so far has exceeded.
-- KEYS: the base, the journal.  ARGV: a mark for the journal if it has to be made, its life in seconds.
-- Answers {record, id}, or {false, the base} while nobody knows who touched anything before.
local base = redis.call('GET', KEYS[1])
if not base or base:sub(1, 1) == '?' then return {false, base} end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local record = last and last[1] or redis.call('XADD', KEYS[2], '1-' .. ARGV[1], '0', '')
redis.call('EXPIRE', KEYS[2], ARGV[2])
return {record, base}
