-- wrk: one execution a request, each under a nonce of its own.
local run, number = "", 0

function init(arguments)
  run = arguments[1]
end

function request()
  number = number + 1
  local body = string.format(
    '{"action":"echo","payload":{"amount":%d,"note":"a payload of ordinary size"},"nonce":"%s-%d"}', number, run, number)
  return wrk.format("POST", "/execute", {["Content-Type"] = "application/json"}, body)
end
