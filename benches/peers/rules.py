"""What the peers need to know of a log: its columns, and which requests are for static assets (src/filter.rs, simplified)."""

FIELDS = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) "
    "x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher "
    "x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type "
    "sc-content-type sc-content-len sc-range-start sc-range-end"
).split()

EXTENSION = (
    "(?i)[.](css|js|map|mjs|png|jpg|jpeg|gif|svg|svgz|webp|avif|bmp|ico|tif|tiff|woff|woff2|ttf|otf|eot|mp3|mp4|webm|ogg|ogv|avi|wav|mov|mkv"
    "|flac|flv|swf)$"
)
