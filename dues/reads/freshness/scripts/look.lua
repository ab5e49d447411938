-- Look an entry up: the strings of its tags now and, where they are those it was filled under, its payload.
-- KEYS: the base, the entry, the entry's lead, its tags.  ARGV: a tag's life in seconds, a lead's in milliseconds.
-- Answers {version, payload, milliseconds that it has left, the time in milliseconds} on a hit;
-- {version, false, who leads, the time in milliseconds} on a miss ('' when it is the asker who leads from now on);
-- {false, the base} when a tag is missing and cannot be made, because nobody knows yet who touched it before.
local values = redis.call('MGET', unpack(KEYS, 4))
for i = 1, #values do
  if not values[i] then
    local base = redis.call('GET', KEYS[1])
    if not base or base:sub(1, 1) == '?' then return {false, base} end
    values[i] = base .. ';'
    redis.call('SET', KEYS[3 + i], values[i], 'EX', ARGV[1])
  end
end
local version = table.concat(values, ' ')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entry = redis.call('GET', KEYS[2])
if entry and entry:sub(1, #version + 1) == version .. '\n' then
  return {version, entry:sub(#version + 2), redis.call('PTTL', KEYS[2]), now}
end
if redis.call('SET', KEYS[3], '+', 'NX', 'PX', ARGV[2]) then return {version, false, '', now} end
return {version, false, redis.call('GET', KEYS[3]), now}
