# Reads a `.env` file as src/dotenv.rs does: parsed, never sourced, so that a secret may hold any character.
# jq, so that a value goes from the file to where it belongs without ever being a word of the shell or of a command line.

def trimmed: sub("^\\s+"; "") | sub("\\s+$"; "");

# In double quotes \" \\ \$ and \` are one character each, as in a shell; nothing is expanded.
def unescaped: gsub("\\\\(?<char>[\"\\\\$`])"; .char);

# What stands in quotes, and what follows; null where the quote is not closed.
def in_single_quotes: capture("^'(?<value>[^']*)'(?<rest>.*)$") // null;
def in_double_quotes: (capture("^\"(?<value>([^\"\\\\]|\\\\.)*)\"(?<rest>.*)$") | .value |= unescaped) // null;

# A value → {value}, or {error}. No error shows content.
def unquoted:
  def closed(kind): if . == null then {error: "has a \(kind) quote that is not closed"}
                    elif .rest | test("^\\s*(#|$)") then {value}
                    else {error: "goes on after the closing quote"} end;
  sub("^\\s+"; "") as $from_quote
  | if $from_quote | startswith("'") then $from_quote | in_single_quotes | closed("single")
    elif $from_quote | startswith("\"") then $from_quote | in_double_quotes | closed("double")
    else {value: (sub("\\s#.*$"; "") | trimmed)} end;

# A line → {name, value}, or {error}.
def assignment:
  sub("^export "; "")
  | (capture("^(?<name>[^=]*)=(?<value>.*)$") // null) as $parts
  | if $parts == null then {error: "is not NAME=VALUE"}
    else
      ($parts.name | trimmed) as $name
      | if $name | test("^[A-Za-z_][A-Za-z0-9_]*$") then {name: $name} + ($parts.value | unquoted)
        else {error: "has a name that is not letters, digits and underscores"} end
    end;

# The whole text → {variables: {NAME: value}, problems: ["line N …"]}.
def dotenv:
  sub("^\ufeff+"; "")
  | if contains("\ufffd") then {variables: {}, problems: ["is not UTF-8 text"]}
    else
      reduce (split("\n") | to_entries[] | {line: (.key + 1), text: (.value | trimmed)}
              | select(.text != "" and (.text | startswith("#") | not))) as $at
        ({variables: {}, problems: []};
         ($at.text | assignment) as $read
         | if $read.error then .problems += ["line \($at.line) \($read.error)"]
           elif .variables | has($read.name) then .problems += ["line \($at.line) sets a name that is set before"]
           else .variables[$read.name] = $read.value
           end)
    end;
