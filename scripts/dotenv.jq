# Reads a `.env` file as src/dotenv.rs does: it is parsed and never sourced, so that a secret may
# contain any character. In jq, a value is never a word of the shell or of a command line.

import "settings" as $table;

def trimmed: sub("^\\s+"; "") | sub("\\s+$"; "");

# problem(NAME; {PLACEHOLDER: TEXT}) → {message, hint}, from the message NAME of settings.json.
def problem(name; values):
  name as $name | values as $values
  | $table::table[0].messages[$name]
  | map_values(reduce ($values | to_entries[]) as $value (.; split("{\($value.key)}") | join("\($value.value)")))
  | {message, hint};

# In double quotes \" \\ \$ and \` are one character each, as in a shell; nothing is expanded.
def unescaped: gsub("\\\\(?<char>[\"\\\\$`])"; .char);

# The text in quotes and the text after them; null if the quote is not closed.
def in_single_quotes: capture("^'(?<value>[^']*)'(?<after>.*)$") // null;
def in_double_quotes: (capture("^\"(?<value>([^\"\\\\]|\\\\.)*)\"(?<after>.*)$") | .value |= unescaped) // null;

# A value → {value}, or {error: NAME of a message}.
def unquoted:
  def closed(open): if . == null then {error: open}
                    elif .after | test("^\\s*(#|$)") then {value}
                    else {error: "DOTENV_AFTER_QUOTE"} end;
  sub("^\\s+"; "") as $from_quote
  | if $from_quote | startswith("'") then $from_quote | in_single_quotes | closed("DOTENV_SINGLE_QUOTE")
    elif $from_quote | startswith("\"") then $from_quote | in_double_quotes | closed("DOTENV_DOUBLE_QUOTE")
    else {value: (sub("\\s#.*$"; "") | trimmed)} end;

# A line → {name, value}, or {name, error}; name is null if it is invalid.
def assignment:
  sub("^export "; "")
  | (capture("^(?<name>[^=]*)=(?<value>.*)$") // null) as $parts
  | if $parts == null then {error: "DOTENV_LINE"}
    else
      ($parts.name | trimmed) as $name
      | if $name | test("^[A-Za-z_][A-Za-z0-9_]*$") then {name: $name} + ($parts.value | unquoted)
        else {error: "DOTENV_NAME"} end
    end;

# The message for a name that is set twice. Only names of settings are shown: another one may be a
# value without its name.
def twice:
  ascii_upcase as $upper
  | if any($table::table[0].settings[]; .name == $upper or .vendor_name == $upper) then "DOTENV_TWICE"
    else "DOTENV_TWICE_UNKNOWN" end;

# The text of FILE → {variables: {NAME: value}, unreadable: [NAME], problems: [{message, hint}]}.
def dotenv(file):
  file as $file
  | sub("^\ufeff+"; "")
  | if contains("\ufffd") then
      { variables: {},
        unreadable: [$table::table[0].settings[].name],
        problems: [problem("DOTENV_ENCODING"; {file: $file})] }
    else
      reduce (split("\n") | to_entries[] | {line: (.key + 1), text: (.value | trimmed)}
              | select(.text != "" and (.text | startswith("#") | not))) as $at
        ({variables: {}, lines: {}, unreadable: [], problems: []};
         ($at.text | assignment) as $read
         | (if $read.error then $read.error elif .lines[$read.name] then $read.name | twice else null end) as $error
         | if $error then
             {file: $file, line: $at.line, name: $read.name, first: .lines[$read.name // ""]} as $values
             | .problems += [problem($error; $values)]
             | .unreadable += [$read.name // empty]
           else .variables[$read.name] = $read.value | .lines[$read.name] = $at.line end)
      | del(.lines)
    end;
