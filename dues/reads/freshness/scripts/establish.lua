-- Establish the base: turn the claim that this process laid on it into the highest id any touch may have had so far.
-- KEYS: the base.  ARGV: the mark of the claim, a transaction id that PostgreSQL gave out after the claim was laid,
-- the base's life in seconds.  Answers 1 when done, 0 when the claim is gone.
local base = redis.call('GET', KEYS[1])
if not base then return 0 end
local mark, top = base:match('^%?(%w+):(%d+)$')
if mark ~= ARGV[1] then return 0 end
local id = ARGV[2]
if #top > #id or (#top == #id and top > id) then id = top end
redis.call('SET', KEYS[1], id, 'EX', ARGV[3])
return 1
