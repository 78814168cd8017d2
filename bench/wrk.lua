-- Prints what wrk has found as one line of JSON. Runs once, at the end, so it costs no request anything.
done = function(summary, latency, requests)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%f,"p50_us":%d,"p99_us":%d,"max_us":%d,"errors":%d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99), latency.max,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout
    ))
end
