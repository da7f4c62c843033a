# The settings of a `.env` file → Terraform's variables. What is checked here is what src/config.rs would refuse in the
# function, so that it is told before anything is made; names, spellings and ranges are the same.

include "dotenv";

# name, the reference integration's name, and how its value is checked.
def settings: [
  ["BRIDGE_CLIENT_ID", "CEQUENCE_CLIENT_ID"],
  ["BRIDGE_CLIENT_SECRET", "CEQUENCE_CLIENT_SECRET"],
  ["BRIDGE_AUTH_ENDPOINT", "CEQUENCE_AUTH_ENDPOINT", "url"],
  ["BRIDGE_EDGE_ENDPOINT", "CEQUENCE_EDGE_ENDPOINT", "url"],
  ["BRIDGE_SECRET_ARN", null],
  ["BRIDGE_CA_FILE", null],
  ["BRIDGE_AUTH_METHOD", null, ["client_secret_post", "client_secret_basic"]],
  ["BRIDGE_CONCURRENCY", null, {from: 1, to: 64}],
  ["BATCH_MAX_TRANSACTIONS", null, {from: 1, to: 250}],
  ["BATCH_MAX_BYTES", null, {from: 1000, to: 10000000}],
  ["STATIC_EXTENSIONS", null, "extensions"],
  ["EXCLUDE_PATHS", null, "paths"],
  ["REDACT", null, ["on", "off"]],
  ["REDACT_COOKIES", null, ["keep", "drop", "hash"]],
  ["REDACTION_KEY", null, "key"],
  ["RETRY_FOR", null, "time"],
  ["LOG_LEVEL", "CEQUENCE_LOG_LEVEL", "level"],
  ["TF_AUTO_APPROVE", null]
] | map({name: .[0], vendor: .[1], check: .[2]});

def is_one_of(words): . as $word | any(words[]; . == $word);

# The text of a `.env` file → {settings: {NAME: value}, problems: [...]}. Names are matched without regard to case, empty
# values are passed over, and so are names that are somebody else's.
def read_settings:
  dotenv
  | reduce (.variables | to_entries[]) as $set ({settings: {}, spelled: {}, problems};
      ($set.key | ascii_upcase) as $upper
      | (settings | map(select(.name == $upper or .vendor == $upper)) | first.name) as $name
      | if $name == null then
          if $upper | test("^(BRIDGE|BATCH_MAX|CEQUENCE)_") then
            .problems += ["\($set.key) is no setting of edgetap: correct or remove it (.env.example lists them all)"]
          else . end
        elif $set.value == "" then .
        elif .settings[$name] != null and .settings[$name] != $set.value then
          .problems += ["\($name) is set twice, as \(.spelled[$name]) and as \($set.key), to different values: remove one of them"]
        else .settings[$name] = $set.value | .spelled[$name] = $set.key end)
  | del(.spelled);

# Whether a setting's value is given to Terraform by the environment, which then wins.
def overridden(variable): $ENV | has("TF_VAR_" + variable);

def url_problem:
  (trimmed | if contains("://") then . else "https://" + . end
   | capture("^(?<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?<authority>[^/?#]*)(?<rest>.*)$") // null) as $url
  | if $url == null or $url.authority == "" or ($url.authority | test("[\\s\"<>\\\\^`{|}]")) then
      "is not a URL such as https://host/path"
    else
      ($url.scheme | ascii_downcase) as $scheme
      | ($url.authority | test("^(localhost|127(\\.[0-9]+){3}|\\[::1\\])(:[0-9]*)?$"; "i")) as $loopback
      | if $scheme | is_one_of(["http", "https"]) | not then "is neither https nor http"
        elif $url.authority | contains("@") then "holds credentials: a URL here may not"
        elif $url.rest | test("[?#]") then "has a query or a fragment: remove it"
        elif $scheme == "http" and ($loopback | not) then
          "is not https: secrets and transactions travel in the clear only to this machine (loopback)"
        else empty end
    end;

def extensions_problem:
  (split(",") | map(trimmed | select(. != ""))) as $words
  | ($words | map(select(test("^[+-]"))) | length) as $edits
  | if trimmed | ascii_downcase == "none" then empty
    elif $edits != 0 and $edits != ($words | length) then "mixes a list (css,js) with edits (+pdf,-svg): use one of them"
    elif $words | all(test("^[+-]*\\.*[A-Za-z0-9]{1,16}$")) | not then
      "has an extension that is not 1 to 16 letters and digits"
    else empty end;

# Whether the rest is a glob the function checks itself.
def paths_problem:
  split(",") | map(trimmed | select(. != "")) | select(all(startswith("/")) | not) | "has a glob that does not begin with /";

# The function knows more spellings, such as 1h 30m: those it checks itself.
def time_problem:
  (capture("^\\s*(?<number>[0-9]{1,9})\\s*(?<unit>[smhd])\\s*$") // null) as $time
  | ($time | if . then (.number | tonumber) * {s: 1, m: 60, h: 3600, d: 86400}[.unit] else null end) as $seconds
  | if $seconds == null and test("[0-9]") then empty
    elif $seconds != null and $seconds >= 60 and $seconds <= 3 * 86400 then empty
    else "is not a time from 1m to 3d, such as 12h" end;

def level: trimmed | ascii_downcase;
def levels: ["error", "warn", "info", "debug", "trace"];

def value_problem(check):
  if check == null then empty
  elif check == "url" then url_problem
  elif check == "extensions" then extensions_problem
  elif check == "paths" then paths_problem
  elif check == "key" then select(utf8bytelength < 16) | "is shorter than 16 bytes"
  elif check == "time" then time_problem
  elif check == "level" then select(level | is_one_of(levels) | not) | "is none of \(levels | join(", "))"
  elif check | type == "array" then select(is_one_of(check) | not)
    | if check | length == 2 then "is neither \(check | join(" nor "))" else "is none of \(check | join(", "))" end
  else
    (trimmed | if test("^\\+?[0-9]{1,12}$") then tonumber else -1 end) as $number
    | select($number < check.from or $number > check.to) | "is not a number from \(check.from) to \(check.to)"
  end;

# Everything that is wrong with them, for the module. `ca` is the text of BRIDGE_CA_FILE, null where it cannot be read.
def problems($ca):
  .settings as $is
  | def missing(variable; names; what):
      names[] | select(overridden(variable) or $is[.] != null | not) | "\(.) is not set: \(what)";
    .problems
    + [ settings[] | .check as $check | .name as $name
        | $is[$name] // empty | value_problem($check) | "\($name) \(.)" ]
    + [ missing("bridge_credentials"; ["BRIDGE_CLIENT_ID", "BRIDGE_CLIENT_SECRET"]; "take it from the tenant's API credentials"),
        missing("bridge_auth_endpoint"; ["BRIDGE_AUTH_ENDPOINT"]; "it is the URL, or the host, that the tenant gave you"),
        missing("bridge_edge_endpoint"; ["BRIDGE_EDGE_ENDPOINT"]; "it is the URL, or the host, that the tenant gave you") ]
    + [ $is.BRIDGE_SECRET_ARN // empty
        | "BRIDGE_SECRET_ARN is for a function that you deploy yourself: the module keeps a secret of its own, remove the line" ]
    + [ $is.BRIDGE_CA_FILE // empty
        | if $ca == null then "BRIDGE_CA_FILE names a file that cannot be read"
          elif $ca | contains("PRIVATE KEY") then "BRIDGE_CA_FILE names a file that holds a private key: certificates only"
          elif $ca | contains("-----BEGIN CERTIFICATE-----") | not then "BRIDGE_CA_FILE names a file without a PEM certificate"
          else empty end ];

# A string of Terraform's language: "${" and "%{" would begin a template.
def hcl:
  def hex: [., 16] | [(.[0] / 16 | floor), .[0] % 16] | map("0123456789abcdef"[.:. + 1]) | add;
  def escaped:
    if . == 34 then "\\\"" elif . == 92 then "\\\\" elif . == 10 then "\\n" elif . == 13 then "\\r" elif . == 9 then "\\t"
    elif . < 32 or . == 127 then "\\u00" + hex else [.] | implode end;
  "\"" + (explode | map(escaped) | add // "" | gsub("\\$\\{"; "$${") | gsub("%\\{"; "%%{")) + "\"";

def line(variable; value): select(overridden(variable) | not) | "\(variable) = \(value)";

# What is no secret. A setting that is not there is not written: the module's default is the setting's default.
def public_variables($secret_version; $architecture):
  .settings as $is
  | def each_set(names; as_hcl):
      names | . as $name | select($is[$name] != null) | line($name | ascii_downcase; $is[$name] | as_hcl);
    each_set("BRIDGE_AUTH_ENDPOINT", "BRIDGE_EDGE_ENDPOINT"; trimmed | hcl),
    each_set("BRIDGE_AUTH_METHOD", "STATIC_EXTENSIONS", "EXCLUDE_PATHS", "REDACT", "REDACT_COOKIES", "RETRY_FOR"; hcl),
    each_set("BRIDGE_CONCURRENCY", "BATCH_MAX_TRANSACTIONS", "BATCH_MAX_BYTES"; trimmed | tonumber),
    each_set("LOG_LEVEL"; level | hcl),
    ($architecture | select(. != "") | line("architecture"; hcl)),
    line("secret_version"; $secret_version);

# `key` hashes cookies where .env has none of its own.
def secret_variables($ca; $key):
  .settings
  | [ "  client_id     = \(.BRIDGE_CLIENT_ID | hcl)",
      "  client_secret = \(.BRIDGE_CLIENT_SECRET | hcl)",
      (select(.BRIDGE_CA_FILE) | "  bridge_ca     = \($ca | hcl)"),
      (select(.REDACT_COOKIES == "hash") | "  redaction_key = \(.REDACTION_KEY // $key | hcl)") ]
  | line("bridge_credentials"; "{\n\(join("\n"))\n}");
