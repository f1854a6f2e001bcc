#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# chat, top and the page against a serving run: the same bytes as the API's, keys, the endpoint file across a change of
# servers, Unix sockets, and a terminal that is given back.
# timeout: 120
set -u
polyreme=$POLYREME_BUILD/polyreme
model=$POLYREME_SOURCE/models/demo
work=$(mktemp -d)
jobs=()
trap 'for job in "${jobs[@]}"; do kill -9 "$job" 2> /dev/null; done; rm -rf "$work"' EXIT
failures=0
file=$work/endpoint.json

if "$polyreme" chat --url http://127.0.0.1:9 -p x 2>&1 | grep -q 'without libcurl'; then
    echo "this build has no clients: skipped"
    exit 77
fi

# expect NAME CODE PATTERN COMMAND...: exit code, and a pattern (grep -E) that output or errors have.
expect() {
    local name=$1 code=$2 pattern=$3 got
    shift 3
    "$@" > "$work/out" 2> "$work/err" < /dev/null
    got=$?
    verdict "$name" "$([ $got = "$code" ] && cat "$work/out" "$work/err" | grep -qaE -- "$pattern"; echo $?)" \
        "exit $got (expected $code), '$pattern' in: $(cat "$work/out" "$work/err" | tr -d '\033' | head -c 300)"
}
verdict() { # NAME STATUS DETAIL
    [ "$2" = 0 ] && echo "ok     $1" && return
    echo "FAILED $1: $3"
    failures=$((failures + 1))
}
serve() { # FLAGS: returns when the endpoint file is there
    rm -f "$file"
    "$polyreme" serve "$model" --port 0 --endpoint-file "$file" "$@" > "$work/log" 2>&1 5>&- &
    jobs+=($!)
    for _ in $(seq 200); do [ -s "$file" ] && return; sleep 0.05; done
    echo "FAILED no server:" && cat "$work/log" && exit 1
}
end_server() { kill "${jobs[-1]}" && wait "${jobs[-1]}"; }
http() ( # METHOD PATH [BODY]
    exec 3<> "/dev/tcp/127.0.0.1/$(jq .port "$file")"
    printf '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "$1" "$2" "${#3}" "$3" >&3
    cat <&3
)

# ---- One server, no key ----

serve
greedy=(--temperature 0 -n 12 --endpoint-file "$file")
http POST /v1/chat/completions \
    '{"messages":[{"role":"user","content":"And he went"}],"max_tokens":12,"temperature":0}' |
    tail -n 1 | jq -r '.choices[0].message.content' > "$work/api"
"$polyreme" chat "${greedy[@]}" -p "And he went" > "$work/out"
verdict "chat prints the bytes of the API's answer" \
    "$([ -s "$work/api" ] && cmp -s "$work/api" "$work/out"; echo $?)" "$(cat "$work/api" "$work/out")"

first=$(jq -Rs 'rtrimstr("\n")' "$work/api")
http POST /v1/chat/completions \
    '{"messages":[{"role":"user","content":"And he went"},{"role":"assistant","content":'"$first"'},{"role":"user","content":"And then"}],"max_tokens":12,"temperature":0}' |
    tail -n 1 | jq -r '.choices[0].message.content' >> "$work/api"
printf 'And he went\nAnd then\n/quit\nunsaid\n' | "$polyreme" chat "${greedy[@]}" > "$work/out"
verdict "lines are one conversation" "$(cmp -s "$work/api" "$work/out"; echo $?)" "$(cat "$work/api" "$work/out")"

expect "statistics are on standard error" 0 '^\[[0-9]+ prompt tokens, 12 tokens, first after .* tokens/s, ended by length\]$' \
    "$polyreme" chat "${greedy[@]}" -p "And he went" --stats
expect "a refusal is the server's message" 3 'the server refused \(400\): .*100000' \
    "$polyreme" chat "${greedy[@]}" -n 100000 -p x
expect "an unknown model is refused" 3 "the server refused \(404\): .*'nope'" \
    "$polyreme" chat "${greedy[@]}" --model nope -p x
expect "top reports to a pipe" 0 '^demo  ready  polyreme ' "$polyreme" top --endpoint-file "$file"
"$polyreme" top --endpoint-file "$file" --json > "$work/out"
verdict "top --json is the status" \
    "$(jq -e '.model == "demo" and (.groups | length) == 1 and .requests.finished.length > 3' "$work/out" > /dev/null; echo $?)" \
    "$(head -c 300 "$work/out")"

http GET / '' > "$work/page"
sed '1,/^\r$/d' "$work/page" > "$work/body"
verdict "the page is the file" "$(cmp -s "$work/body" "$POLYREME_SOURCE/launcher/page/page.html"; echo $?)" "$(head -n 3 "$work/page")"
verdict "the page may load nothing from elsewhere" \
    "$(grep -qi "^content-security-policy: default-src 'none'" "$work/page"; echo $?)" "$(head -n 12 "$work/page")"

# ---- A terminal ----

# Runs top in a terminal of its own: its output, byte for byte, in $work/screen.
screen() { # END
    mkfifo "$work/keys"
    TERM=xterm script -qec "exec '$polyreme' top --endpoint-file '$file' --interval 0.2" /dev/null \
        < "$work/keys" > "$work/screen" 2>&1 &
    local script=$! top
    exec 4> "$work/keys"
    for _ in $(seq 100); do grep -qa 'q quits' "$work/screen" && break; sleep 0.05; done
    top=$(pgrep -P "$script" | head -n 1)
    if [ "$1" = q ]; then printf q >&4; else kill "-$1" "$top"; fi
    for _ in $(seq 100); do kill -0 "$script" 2> /dev/null || break; sleep 0.05; done
    exec 4>&-
    wait "$script"
    code=$?
    rm "$work/keys"
}
if command -v script > /dev/null && command -v pgrep > /dev/null; then
    for end in q TERM SEGV; do
        screen $end
        expected=0
        [ $end = q ] || expected=$((128 + $(kill -l $end)))
        tail -c 200 "$work/screen" | grep -qaF $'\033[?1049l'
        verdict "top gives the terminal back at $end" "$([ $? = 0 ] && [ $code = $expected ]; echo $?)" \
            "exit $code (expected $expected): $(tail -c 80 "$work/screen" | cat -v)"
    done
fi

# ---- Another server takes over ----

mkfifo "$work/lines"
timeout 60 "$polyreme" chat "${greedy[@]}" < "$work/lines" > "$work/said" 2> "$work/notices" &
chat=$!
exec 5> "$work/lines"
echo "And he went" >&5
for _ in $(seq 100); do [ "$(wc -l < "$work/said")" -ge 1 ] && break; sleep 0.05; done
end_server
expect "without a file there is no server" 4 'endpoint file .*endpoint.json' "$polyreme" top --endpoint-file "$file"
serve
echo "And then" >&5
exec 5>&-
wait $chat
verdict "a conversation goes on with the next server" \
    "$(cmp -s "$work/api" "$work/said" && grep -q 'another server has taken over' "$work/notices"; echo $?)" \
    "$(cat "$work/said" "$work/notices")"
url=$(jq -r .url "$file")
end_server
expect "nobody there is told with the address" 5 "no server at $url" "$polyreme" chat --url "$url" -p x

# ---- Keys and sockets ----

(umask 077 && echo secret > "$work/key")
serve --api-key-file "$work/key"
url=$(jq -r .url "$file")
expect "a missing key names the flag" 2 'wants an API key: .*--api-key-file' "$polyreme" chat --url "$url" -p x
expect "a wrong key is told" 2 'wants another API key' "$polyreme" top --url "$url" --api-key wrong
expect "the endpoint file brings the key" 0 '^demo  ready' "$polyreme" top --endpoint-file "$file"
expect "a key may be given" 0 . "$polyreme" chat --url "$url" --api-key-file "$work/key" -p x -n 4
end_server
serve --uds "$work/socket"
expect "a Unix socket is a server" 0 . "$polyreme" chat --url "unix:$work/socket" -p x -n 4
expect "and so it is in the endpoint file" 0 '^demo  ready' "$polyreme" top --endpoint-file "$file"
end_server

[ $failures = 0 ]
