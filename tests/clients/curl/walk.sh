#!/usr/bin/env bash
# Guildhall with curl and jq: a mutation that is only tried, one that is sent twice, a list that is read page by page.
set -euo pipefail
url=${GUILDHALL_URL:-http://127.0.0.1:8080}
token=

# ask DOCUMENT [NAME VALUE]…: one operation, with its variables and, once there is one, your token.
ask() {
  local document=$1 variables='{}'
  shift
  while (($# > 0)); do
    variables=$(jq -c --arg name "$1" --arg value "$2" '. + {($name): $value}' <<<"$variables")
    shift 2
  done
  jq -n --arg query "$document" --argjson variables "$variables" '{$query, $variables}' |
    curl -sS "$url/graphql" -H 'content-type: application/json' ${token:+-H "authorization: Bearer $token"} \
      ${key:+-H "idempotency-key: $key"} --data-binary @-
}

# must FILTER: fails, and says what came instead, unless jq finds that true of the answer.
must() {
  local answer
  answer=$(cat)
  jq -e "$1" <<<"$answer" >/dev/null || {
    echo "expected $1 of $answer" >&2
    return 1
  }
  printf '%s' "$answer"
}

ask 'mutation ($token: String!) {
  setUp(input: { token: $token, organizationName: "Analytical Society", displayName: "Ada Lovelace",
    email: "ada@example.org", password: "violet tram under the bridge" }) { userErrors { code message } }
}' token "$GUILDHALL_SETUP_TOKEN" | must '.data.setUp.userErrors == []' >/dev/null

token=$(ask 'mutation {
  signIn(input: { email: "ada@example.org", password: "violet tram under the bridge" }) { session { accessToken } }
}' | jq -r .data.signIn.session.accessToken)

# Tried only: it is checked and answered as ever, and nothing is made.
ask 'mutation {
  createWorkspace(dryRun: true, input: { displayName: "Malaria Atlas" }) { workspace { name } userErrors { code } }
}' | must '.data.createWorkspace.workspace.name == "malaria-atlas"' >/dev/null
ask '{ workspace(name: "malaria-atlas") { id } }' | must '.data.workspace == null' >/dev/null

# Sent twice with one key, as after a broken connection: it is carried out once, and answered alike.
create='mutation { createWorkspace(input: { displayName: "Malaria Atlas" }) { workspace { id name } userErrors { code } } }'
key=$(cat /proc/sys/kernel/random/uuid)
first=$(ask "$create" | must '.data.createWorkspace.userErrors == []')
again=$(ask "$create")
[[ $first == "$again" ]]
# The key of one request is refused for another.
ask 'mutation { createWorkspace(input: { displayName: "Den" }) { userErrors { code } } }' |
  must '.errors[0].extensions.code == "IDEMPOTENCY_KEY_REUSED"' >/dev/null
key=

# A list, page by page. `extensions` asks what it costs.
page='query ($after: String) { viewer { workspaces(first: 1, after: $after) {
  nodes { name } pageInfo { hasNextPage endCursor }
} } }'
answer=$(ask "$page")
while
  jq -r '.data.viewer.workspaces.nodes[].name' <<<"$answer"
  jq -e .data.viewer.workspaces.pageInfo.hasNextPage <<<"$answer" >/dev/null
do
  answer=$(ask "$page" after "$(jq -r .data.viewer.workspaces.pageInfo.endCursor <<<"$answer")")
done
curl -sS "$url/graphql" -H 'content-type: application/json' -H "authorization: Bearer $token" \
  --data '{"query": "{ viewer { workspaces(first: 100) { nodes { name } } } }", "extensions": {"queryCost": true}}' |
  must '.extensions.queryCost.complexity > 20' >/dev/null
