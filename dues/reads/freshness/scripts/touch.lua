#!lua flags=allow-oom
-- Touch tags and the journal before a transaction commits: append its id to each tag and, where it names words, a record
-- to the journal.
-- KEYS: the base, the journal, the tags.  ARGV: the id, how many of the newest ids a tag lists, the words, how many
-- records the journal keeps, its life in seconds.
-- What is missing stays missing: whoever makes it anew starts from the base, which is raised here.
-- Ids have 64 bits and Lua's numbers 53, so they are compared as text: first by length, then by digits.
local id, most, words = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local function greater(a, b)
  if #a > #b or (#a == #b and a > b) then return a end
  return b
end
local base = redis.call('GET', KEYS[1])
if base then
  local claim, top = base:match('^(.-)(%d+)$')
  redis.call('SET', KEYS[1], claim .. greater(top, id), 'KEEPTTL')
end
for i = 3, #KEYS do
  local value = redis.call('GET', KEYS[i])
  if value then
    local floor, ids = value:match('^(%d+);(.*)$')
    ids = ids == '' and id or ids .. ',' .. id
    local _, commas = ids:gsub(',', '')
    if commas == most then
      local oldest, rest = ids:match('^(%d+),(.*)$')
      floor, ids = greater(floor, oldest), rest
    end
    redis.call('SET', KEYS[i], floor .. ';' .. ids, 'KEEPTTL')
  end
end
if words ~= '' then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if last then
    -- Records are counted, and all have the mark that the journal was made with.
    local number, mark = last[1]:match('^(%d+)-(%d+)$')
    local name = string.format('%.0f-%s', tonumber(number) + 1, mark)
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], name, id, words)
    redis.call('EXPIRE', KEYS[2], ARGV[5])
  end
end
return 1
