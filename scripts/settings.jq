# Settings, from a `.env` file and the environment → Terraform's variables.
#
# settings.json, which is generated from src/settings.rs, lists the settings with their kinds and
# ranges, and all messages. A mistake shows before anything is created. `edgetap check` checks more:
# ports, the syntax of globs, and durations in spellings other than those of `seconds` below.

include "dotenv";
import "settings" as $table;

def settings: $table::table[0].settings;
def is_one_of(words): . as $word | any(words[]; . == $word);

# The number of letters to insert, delete or replace (Levenshtein).
def distance(other):
  explode as $from | (other | explode) as $to
  | reduce range($from | length) as $i ([range($to | length + 1)];
      . as $above
      | reduce range($to | length) as $j ([$i + 1];
          . + [[.[$j] + 1, $above[$j + 1] + 1, $above[$j] + (if $from[$i] == $to[$j] then 0 else 1 end)] | min]))
  | last;

# A name that is not a setting's → a problem, if it looks like one.
def unknown:
  . as $name | ascii_upcase as $upper
  | select(any($table::table[0].prefixes[]; . as $prefix | $upper | startswith($prefix)))
  | ([settings[] | .name, .vendor_name // empty | {name: ., distance: distance($upper)}] | min_by(.distance)) as $known
  | if $known.distance <= 3 then problem("MISSPELLED"; {name: $name, suggestion: $known.name})
    else problem("UNKNOWN"; {name: $name}) end;

# Names in any case.
def setting_of(name):
  (name | ascii_upcase) as $upper
  | first(settings[] | select(.name == $upper or .vendor_name == $upper)) // null;

# {NAME: value} → {settings, problems}. Empty values and other programs' variables are ignored.
def recognized:
  reduce (to_entries | sort_by(.key)[]) as $set ({settings: {}, spelled: {}, problems: []};
    setting_of($set.key).name as $name
    | if $name == null then .problems += [$set.key | unknown]
      elif $set.value == "" then .
      elif .settings[$name] == null then .settings[$name] = $set.value | .spelled[$name] = $set.key
      elif .settings[$name] == $set.value then .
      else .problems += [problem("SET_TWICE"; {name: $name, first: .spelled[$name], second: $set.key})] end);

# The text of FILE → {settings: {NAME: value}, problems: [{message, hint}], unreadable: [NAME]}. The
# environment takes precedence.
def read_settings(file):
  dotenv(file) as $file
  | ($file.variables | recognized) as $from_file
  | ($ENV | recognized) as $from_environment
  | { settings: ($from_file.settings + $from_environment.settings),
      unreadable: [$file.unreadable[] | setting_of(.).name // empty],
      problems: ($file.problems + $from_file.problems + ($from_environment.problems - $from_file.problems)) };
def read_settings: read_settings(".env");

# A URL or a host name → {scheme, authority, rest}; empty if it is neither.
def url:
  trimmed | if contains("://") then . else "https://" + . end
  | capture("^(?<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?<authority>[^/?#]*)(?<rest>.*)$") // null
  | select(. and .authority != "" and (.authority | test("[\\s\"<>\\\\^`{|}]") | not))
  | .scheme |= ascii_downcase;
def is_loopback: .authority | test("^(localhost|127(\\.[0-9]+){3}|\\[::1\\])(:[0-9]*)?$"; "i");

def items: split(",") | map(trimmed | select(. != ""));
def position(condition): [to_entries[] | select(.value | condition) | .key + 1] | first // empty;

# The seconds of a duration such as 12h; null for the other spellings that src/config.rs knows.
def seconds:
  (capture("^\\s*(?<number>[0-9]{1,9})\\s*(?<unit>[smhd])\\s*$") // null)
  | if . then (.number | tonumber) * {s: 1, m: 60, h: 3600, d: 86400}[.unit] else null end;
def duration_text:
  if . % 86400 == 0 then "`\(. / 86400)d`"
  elif . % 3600 == 0 then "`\(. / 3600)h`"
  elif . % 60 == 0 then "`\(. / 60)m`"
  else "`\(.)s`" end;

def alternatives: map("`\(.)`") | if length > 1 then "\(.[:-1] | join(", ")) or \(last)" else first end;
def lenient: trimmed | ascii_downcase;

# A value → its problems, for a setting of settings.json.
def value_problems($setting):
  def refused(key; values): problem(key; $setting + values);
  def refused(key): refused(key; {});
  if $setting.kind == "url" then
    (url // null) as $url
    | if $url == null then refused("URL")
      elif $url.scheme | is_one_of(["http", "https"]) | not then refused("URL_SCHEME")
      elif $url.authority | contains("@") then refused("URL_USER")
      elif $url.rest | contains("#") then refused("URL_FRAGMENT")
      elif $url.scheme == "http" and ($url | is_loopback | not) then refused("URL_SCHEME")
      else empty end
  elif $setting.kind == "integer" then
    (trimmed | if test("^\\+?[0-9]{1,12}$") then tonumber else -1 end)
    | select(. < $setting.from or . > $setting.to) | refused("INTEGER")
  elif $setting.kind == "duration" then
    seconds as $seconds
    | select(if $seconds then $seconds < $setting.from or $seconds > $setting.to else test("[0-9]") | not end)
    | refused("DURATION"; {from: ($setting.from | duration_text), to: ($setting.to | duration_text)})
  elif $setting.kind == "choice" then
    (if $setting.ignore_case then lenient else . end)
    | select(is_one_of($setting.values) | not) | refused("CHOICE"; {values: ($setting.values | alternatives)})
  elif $setting.kind == "secret" then select(utf8bytelength < $setting.min_bytes) | refused("SECRET")
  elif $setting.kind == "extensions" then
    items as $items
    | ($items | map(select(test("^[+-]"))) | length) as $edits
    | if lenient == "none" then empty
      elif $edits != 0 and $edits != ($items | length) then refused("EXTENSIONS_MIXED")
      else
        ($items | position(test("^[+-]*\\.*[A-Za-z0-9]{1,\($setting.max_length)}$") | not)) as $position
        | refused("EXTENSIONS_INVALID"; {position: $position})
      end
  elif $setting.kind == "names" then
    items as $items
    | $items[1:] as $names
    | if $items[0] == $setting.values[0] then
        ($names | position(test("^([+-][*]?([A-Za-z0-9_][A-Za-z0-9_-]{0,\($setting.max_length - 2)})?[A-Za-z0-9]|-(?i:x-amz-)[*])$") | not)) as $position
        | refused("NAME_INVALID"; {position: $position})
      elif $items == $setting.values[1:] then empty
      else refused("NAMES_SWITCH"; {values: ($setting.values | alternatives)}) end
  elif $setting.kind == "globs" then # src/config.rs checks their syntax
    (items | position(startswith("/") | not)) as $position | refused("GLOB_RELATIVE"; {position: $position})
  elif $setting.kind == "parameters" then
    def is_named: test("^[A-Za-z0-9._-]+=");
    def is_reserved: (split("=")[0] | ascii_downcase) | is_one_of($setting.reserved);
    [trimmed | split("&")[] | select(. != "")]
    | position((is_named | not) or is_reserved) as $position
    | .[$position - 1]
    | refused(if is_named then "PARAMETER_RESERVED" else "PARAMETER_INVALID" end;
        {position: $position, reserved: ($setting.reserved | alternatives)})
  else empty end;

# Whether the environment gives Terraform a variable, and so takes precedence.
def overridden(variable): variable as $variable | $ENV | has("TF_VAR_" + $variable);
def variable: if .place == "secret" then "bridge_credentials" else .name | ascii_downcase end;

# All problems, for the Terraform module. $ca is the text of the file in BRIDGE_CA_FILE, or null if
# it cannot be read for the $reason.
def problems($ca; $reason):
  . as $read
  | def is_missing:
      $read.settings[.name] == null and (overridden(variable) | not) and (.name | is_one_of($read.unreadable) | not);
    .problems
    + [ settings[] | . as $setting | $read.settings[.name] // empty | value_problems($setting) ]
    + [ settings[] | select(.required and is_missing) | problem("MISSING"; .) ]
    + [ settings[] | select(.place == "module" and $read.settings[.name] != null) | problem("NOT_HERE"; .) ]
    + [ settings[] | select(.kind == "file" and $read.settings[.name] != null)
        | if $ca == null then problem("FILE_UNREADABLE"; . + {reason: $reason})
          elif $ca | contains("PRIVATE KEY") then problem("FILE_KEY"; .)
          elif $ca | contains("-----BEGIN CERTIFICATE-----") | not then problem("FILE_EMPTY"; .)
          else empty end ];

# Values that are valid, and cannot work in a Lambda function.
def warnings:
  .settings as $is
  | settings[]
  | select(.kind == "url" and ($is[.name] // "" | any(url; is_loopback)))
  | problem("URL_LOOPBACK"; .);

# A string of Terraform's language: "${" and "%{" would begin a template.
def hcl:
  def hex: [., 16] | [(.[0] / 16 | floor), .[0] % 16] | map("0123456789abcdef"[.:. + 1]) | add;
  def escaped:
    if . == 34 then "\\\"" elif . == 92 then "\\\\"
    elif . == 10 then "\\n" elif . == 13 then "\\r" elif . == 9 then "\\t"
    elif . < 32 or . == 127 then "\\u00" + hex else [.] | implode end;
  "\"" + (explode | map(escaped) | add // "" | gsub("\\$\\{"; "$${") | gsub("%\\{"; "%%{")) + "\"";

def line(variable; value): select(overridden(variable) | not) | "\(variable) = \(value)";

# A value, as Terraform's variable has it.
def terraform_value($setting):
  if $setting.kind == "integer" then trimmed | tonumber
  elif $setting.kind == "url" then trimmed | hcl
  elif $setting.ignore_case then lenient | hcl
  else hcl end;

# The variables that are not secret. A setting without a value is left out: the function has the
# default.
def public_variables($secret_version; $architecture):
  .settings as $is
  | ( settings[] | . as $setting | select(.place == "environment" and $is[.name] != null)
      | line(variable; $is[$setting.name] | terraform_value($setting)) ),
    ($architecture | select(. != "") | line("architecture"; hcl)),
    line("secret_version"; $secret_version);

# $key hashes cookies if REDACTION_KEY is not set.
def secret_variables($ca; $key):
  .settings
  | [ "  client_id     = \(.BRIDGE_CLIENT_ID | hcl)",
      "  client_secret = \(.BRIDGE_CLIENT_SECRET | hcl)",
      (select(.BRIDGE_CA_FILE) | "  bridge_ca     = \($ca | hcl)"),
      (select(.REDACT_COOKIES == "hash") | "  redaction_key = \(.REDACTION_KEY // $key | hcl)") ]
  | line("bridge_credentials"; "{\n\(join("\n"))\n}");
