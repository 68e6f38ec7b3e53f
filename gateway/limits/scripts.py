"""The Lua scripts of the shared limiter: each is one atomic step and one round trip. Amounts are whole numbers below 2^53.

Redis's own clock is used: the workers' clocks may differ. What a worker has reserved of budgets and places counts while its lease
lasts (`workers`, a sorted set by the end of leases); a worker that was killed holds nothing for longer. `open` has the ids of a
worker's reservations, so that settling one again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.limits.checks import Check, Measure

_DAY: Final = 86_400  # seconds

_CLOCK: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local living = score and tonumber(score) > now
local function whole(number) return string.format('%.0f', number) end
local function refilled(key, limit)
  local bucket = redis.call('HMGET', key, 'left', 'at')
  local left, at = tonumber(bucket[1]) or limit, tonumber(bucket[2]) or now
  return math.min(limit, left + math.max(0, now - at) * limit / 60), math.max(at, now)
end
local function pour(key, limit, left, at)
  redis.call('HSET', key, 'left', string.format('%.9f', left), 'at', string.format('%.6f', at))
  redis.call('EXPIRE', key, math.ceil((limit - left) * 60 / limit) + 1)
end
"""

# KEYS: workers, open, one of each check. ARGV: worker, its lease in seconds, 1 if it is new, the reservation's id; then of each
# check: kind, limit, amount, seconds to keep its counter, floor ('' where the ledger was not asked).
RESERVE: Final = (
    _CLOCK
    + """
if ARGV[3] == '0' and not living then return {'expired'} end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
local alive, mine = {}, 'h:' .. ARGV[1]
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do alive['h:' .. name] = true end
local answer, unseeded, passed, ats = {'reserved'}, {'unseeded'}, true, {}
for i = 3, #KEYS do
  local at = 5 + (i - 3) * 5
  local key, kind, limit, amount, floor = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 4]
  local left, spent = 0, 0
  if kind == 'bucket' then
    left, ats[i] = refilled(key, limit)
  else
    local fields, held, known = redis.call('HGETALL', key), 0, nil
    for j = 1, #fields, 2 do
      if fields[j] == 's' then known = tonumber(fields[j + 1])
      elseif alive[fields[j]] then held = held + tonumber(fields[j + 1])
      else redis.call('HDEL', key, fields[j]) end
    end
    if kind == 'budget' then
      if floor ~= '' then
        local sure = math.max(known or 0, tonumber(floor))
        if sure ~= known then
          redis.call('HSET', key, 's', whole(sure))
          redis.call('EXPIRE', key, ARGV[at + 3])
        end
        known = sure
      elseif not known then
        unseeded[#unseeded + 1] = i - 2
      end
      spent = known or 0
    end
    left = limit - spent - held
  end
  if left < amount - 1e-6 then passed = false end
  answer[#answer + 1] = left
  answer[#answer + 1] = spent
end
if #unseeded > 1 then return unseeded end
if not passed then answer[1] = 'refused' end
for i = 3, #KEYS do
  local at, place = 5 + (i - 3) * 5, 2 + (i - 3) * 2
  if passed then
    local left = answer[place] - tonumber(ARGV[at + 2])
    if ARGV[at] == 'bucket' then pour(KEYS[i], tonumber(ARGV[at + 1]), left, ats[i])
    else
      redis.call('HINCRBY', KEYS[i], mine, ARGV[at + 2])
      redis.call('EXPIRE', KEYS[i], ARGV[at + 3])
    end
    answer[place] = left
  end
  answer[place] = string.format('%.9f', answer[place])
  answer[place + 1] = whole(answer[place + 1])
end
if passed then
  redis.call('SADD', KEYS[2], ARGV[4])
  redis.call('EXPIRE', KEYS[2], 172800)
end
return answer
"""
)

# KEYS as above. ARGV: worker, the reservation's id; then of each check: kind, limit, what was reserved, what was used.
# Gives what is spent of each budget, '' of others and of a counter that was lost.
SETTLE: Final = (
    _CLOCK
    + """
if redis.call('SREM', KEYS[2], ARGV[2]) == 0 then return {} end
local mine, answer = 'h:' .. ARGV[1], {}
for i = 3, #KEYS do
  local at = 3 + (i - 3) * 4
  local key, kind, limit, reserved, used = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]
  answer[i - 2] = ''
  if kind == 'bucket' then
    if tonumber(used) ~= reserved then
      local left, when = refilled(key, limit)
      pour(key, limit, math.min(limit, left + reserved - tonumber(used)), when)
    end
  else
    if living and redis.call('HEXISTS', key, mine) == 1 and redis.call('HINCRBY', key, mine, whole(-reserved)) <= 0 then
      redis.call('HDEL', key, mine)
    end
    if kind == 'budget' and redis.call('HEXISTS', key, 's') == 1 then
      answer[i - 2] = whole(redis.call('HINCRBY', key, 's', used))
    end
  end
end
return answer
"""
)

# KEYS: workers. ARGV: worker, its lease. Gives 0 if it was too late.
RENEW: Final = (
    _CLOCK
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 1)
if not living then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
"""
)

# KEYS: workers, one of each check. ARGV: worker; then of each check: kind, limit. Changes nothing.
# Gives what is left and what is spent of each.
LOOK: Final = (
    _CLOCK
    + """
local alive, answer = {}, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do alive['h:' .. name] = true end
for i = 2, #KEYS do
  local kind, limit = ARGV[(i - 1) * 2], tonumber(ARGV[(i - 1) * 2 + 1])
  local left, spent, held = 0, 0, 0
  if kind == 'bucket' then
    left = refilled(KEYS[i], limit)
  else
    local fields = redis.call('HGETALL', KEYS[i])
    for j = 1, #fields, 2 do
      if fields[j] == 's' then spent = tonumber(fields[j + 1])
      elseif alive[fields[j]] then held = held + tonumber(fields[j + 1]) end
    end
    left = limit - spent - held
  end
  answer[#answer + 1] = string.format('%.9f', left)
  answer[#answer + 1] = whole(spent)
end
return answer
"""
)


def reserving(checks: Sequence[Check]) -> list[Any]:
    """What `RESERVE` is told of each check."""
    arguments: list[Any] = []
    for check in checks:
        kept = 35 * _DAY if check.measure is Measure.MONEY_PER_MONTH else 2 * _DAY
        arguments += [check.kind, check.limit, check.amount, kept, "" if check.floor is None else check.floor]
    return arguments


def settling(checks: Sequence[Check], actual: Sequence[int]) -> list[Any]:
    """What `SETTLE` is told of each check."""
    arguments: list[Any] = []
    for check, used in zip(checks, actual, strict=True):
        arguments += [check.kind, check.limit, check.amount, used]
    return arguments


def looking(checks: Sequence[Check]) -> list[Any]:
    """What `LOOK` is told of each check."""
    return [field for check in checks for field in (check.kind, check.limit)]
