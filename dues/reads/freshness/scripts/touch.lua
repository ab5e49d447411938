#!lua flags=allow-oom
-- Touch tags: append a transaction's id to each, before that transaction commits.
-- KEYS: the base, the tags.  ARGV: the id, how many of the newest ids a tag lists.
-- A tag that is missing stays missing: whoever makes it anew starts from the base, which is raised here.
-- Ids have 64 bits and Lua's numbers 53, so they are compared as text: first by length, then by digits.
local id, most = ARGV[1], tonumber(ARGV[2])
local function greater(a, b)
  if #a > #b or (#a == #b and a > b) then return a end
  return b
end
local base = redis.call('GET', KEYS[1])
if base then
  local claim, top = base:match('^(.-)(%d+)$')
  redis.call('SET', KEYS[1], claim .. greater(top, id), 'KEEPTTL')
end
for i = 2, #KEYS do
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
return 1
