-- wrk -s rotate.lua URL -- DIRECTORY COUNT: sends the whole requests 000.http, 001.http ... in rotation,
-- and ends with one line of JSON. https://github.com/wg/wrk/blob/master/SCRIPTING
local requests, count, turn = {}, 0, 0

function init(args)
  count = tonumber(args[2])
  for number = 0, count - 1 do
    local file = assert(io.open(string.format("%s/%03d.http", args[1], number), "rb"))
    requests[number] = file:read("*a")
    file:close()
  end
end

function request()
  turn = (turn + 1) % count
  return requests[turn]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '{"requests": %d, "refused": %d, "broken": %d, "duration_us": %d, "p50_us": %.0f, "p99_us": %.0f}\n',
    summary.requests, failed.status, failed.connect + failed.read + failed.write + failed.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
