# Makes, of the schema of a chart's values, one document for each way in which each value can be mistyped.
#
#   jq -n --slurpfile schema values.schema.json -f charts/mutations.jq
#
# For every value that the schema knows, at any depth, there is a document that holds it as it should be (kind "control",
# which helm must accept) and documents that differ from it in this one thing (kinds "type", "word", "key" and "range",
# which helm must refuse). A map with free keys has one, `example.org/key`; a list has one item.
$schema[0] as $root |

def resolved: if has("$ref") then (.["$ref"][2:] / "/") as $path | $root | getpath($path) else . end;
def types: .type | if type == "array" then . elif . == null then ["string"] else [.] end;

# Words of the shapes that values have; the first that fits is the sample.
def words: ["a", "1Gi", "info", "10.0.0.0/8", "15s", "a.b/c", "sha256:" + "0" * 64];
def sample:
  resolved | . as $shape |
  if has("enum") then .enum[0]
  elif types[0] == "string" then
    first(words[] | select(length <= ($shape.maxLength // 65536) and test($shape.pattern // "")))
  elif types[0] == "integer" then [.minimum // 0, 1] | max
  elif types[0] == "boolean" then true
  elif types[0] == "array" then [.items | sample]
  else . as $object | reduce (.required // [])[] as $name ({}; .[$name] = ($object.properties[$name] | sample))
  end;

# Every value below a shape: its path, its shape, and a document that holds it and what must stand beside it.
def values_below:
  resolved | . as $shape |
  {path: [], shape: ., document: sample},
  if has("properties") then
    (if types | index("object") then sample | objects // {} else {} end) as $beside |
    (.properties | to_entries[]) as $field |
    $field.value | values_below | {path: ([$field.key] + .path), shape, document: ($beside + {($field.key): .document})}
  elif .additionalProperties | type == "object" then
    .additionalProperties | values_below | {path: (["example.org/key"] + .path), shape, document: {"example.org/key": .document}}
  elif has("items") then
    .items | values_below | {path: ([0] + .path), shape, document: [.document]}
  else empty end;

# What this value can't be.
def wrong_types: types as $types |
  [["string", "a"], ["integer", 7], ["integer", 1.5], ["boolean", true], ["array", ["a"]], ["object", {"a": "b"}]][] |
  select(.[0] as $type | $types | index($type) | not) | .[1];
def wrong_words:
  if has("enum") then (.enum[0] | ascii_downcase + "x"), (.enum[0] | ascii_upcase | "." + .)
  elif types | index("string") then "not a word!", "-", "ünter" else empty end;
def out_of_range:
  if has("enum") or types == ["boolean"] then empty
  else
    (if types | index("string") then "a" * ((.maxLength // 70000) + 1) else empty end),
    (if types | index("integer") then (.minimum // -1e300) - 1, (.maximum // 1e300) + 1 else empty end),
    (if types | index("array") then [range(100) as $_ | .items | sample] else empty end)
  end;

# Annotations and the like hold any words: there is no wrong one.
def is_free: types == ["string"] and (has("pattern") or has("enum") | not);

[$root | values_below | select(.path != [])] |
map(
  . as $value |
  def with($kind; $document): {kind: $kind, at: ($value.path | map(tostring) | join(".")), document: $document};
  with("control"; .document),
  with("type"; (.shape | wrong_types) as $wrong | .document | setpath($value.path; $wrong)),
  (if .shape | is_free then empty else with("word"; (.shape | wrong_words) as $wrong | .document | setpath($value.path; $wrong)) end),
  with("range"; (.shape | out_of_range) as $wrong | .document | setpath($value.path; $wrong)),
  (.path[-1] | strings) as $name |
  (.document | getpath($value.path)) as $right |
  if $name == "example.org/key" then with("key"; .document | setpath($value.path[:-1] + ["not a key!"]; $right))
  else with("key"; ($name[:-1], $name + "s", ($name | ascii_upcase)) as $wrong | .document | setpath($value.path[:-1] + [$wrong]; $right))
  end
)
