-- How much of a provider's rate may be used, in millionths: what was left by the last cut, grown since.
-- See domain/share.rs.

local FULL, FLOOR, RECOVERY_US, CUT_EVERY_US = 1000000, 62500, 60000000, 1000000
local PAUSE_MAX_US = 600000000

local function share_at(share, since, now)
  since = tonumber(since or 0)
  -- Further ahead than any pause ends: the machine's clock was stepped back.
  if not share or since > now + PAUSE_MAX_US then return FULL end
  local grown = math.floor(math.max(0, now - since) * FULL / RECOVERY_US)
  return math.min(FULL, math.max(FLOOR, tonumber(share)) + grown)
end
