# Sent to another machine for whatever is to be done there, and run by its shell (see ssh.rs). Set before
# this text: verb, dir, data, store, and what the verb takes. Only what POSIX has, and /proc of Linux; where
# there is no sha256sum, files count as different.
set -u
umask 022
unset BOOKENDS_CONFIG BOOKENDS_CLUSTER_SECRET BOOKENDS_ADMIN_TOKEN
# A start-up file of the login shell may have printed something before this.
echo bookends-begins

fail() { printf '%s\n' "$*" >&2; exit 3; }
# What trying again does not heal.
unfit() { printf '%s\n' "$*" >&2; exit 4; }

case $dir in /*) ;; *) dir=$HOME/$dir ;; esac
case $data in /*) ;; *) data=$dir/$data ;; esac
run=$data/run
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) || boot=-
ticks=$(getconf CLK_TCK 2>/dev/null) || ticks=100

owner=$(cat "$dir/store" 2>/dev/null) || owner=
[ -z "$owner" ] || [ "$owner" = "$store" ] ||
    unfit "$dir there is of another store ($owner): set another ssh.dir, or remove the file $dir/store there"

pause() { sleep 0.2 2>/dev/null || sleep 1; }

# Sets `started`, in ticks since the boot; fails for a process that is gone or a zombie.
start_of() {
    started=-
    IFS= read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    # The name before may hold spaces and parentheses; the state is what follows it.
    set -- ${stat##*) }
    status=$1
    shift 19
    started=$1
    [ "$status" != Z ] && [ "$status" != X ]
}

# Whether the process of a pid file lives. A number that is used again has another start; so has another boot.
lives() {
    pid=- start=- at=-
    read -r pid start at 2>/dev/null <"$run/$1.pid" || return 1
    start_of "$pid" && [ "$started" = "$start" ] && [ "$at" = "$boot" ]
}

exit_of() {
    ended=- then=- code=-
    read -r ended then code 2>/dev/null <"$run/$1.exit"
    [ "$ended $then" = "$pid $start" ] || code=-
}

# One line for each node that has a pid file.
tell() {
    for file in "$run"/*.pid; do
        [ -f "$file" ] || continue
        name=${file##*/}
        name=${name%.pid}
        [ "$name" != sentinel ] || continue
        if lives "$name"; then
            read -r now rest </proc/uptime
            listens=no
            [ ! -f "$run/$name.addr" ] || listens=yes
            echo "up $name $pid $start $((${now%%.*} - start / ticks)) $listens"
        elif [ "$pid" != - ]; then
            exit_of "$name"
            # Its keeper may be about to write it down.
            [ "$code" != - ] || { pause; exit_of "$name"; }
            echo "down $name $pid $start $code"
        fi
    done
    # Nobody reads any more: the connection is gone.
    echo round || exit 0
}

attend() {
    while :; do
        tell
        pause
    done
}

place() {
    case $1 in
        cluster.secret | admin.token) path=$data/$1 ;;
        *) path=$dir/$1 ;;
    esac
}

digest() {
    set -- $(sha256sum 2>/dev/null <"$path")
    echo "${1:-unknown}"
}

compare() {
    why=$(mkdir -p "$dir/bin" "$run" "$data/logs" 2>&1) || fail "$why"
    [ -n "$owner" ] || printf '%s\n' "$store" >"$dir/store" || fail "cannot write $dir/store"
    echo "system $(uname -s) $(uname -m)"
    for file in $files; do
        place "$file"
        if [ -f "$path" ]; then echo "file $file $(digest)"; else echo "file $file missing"; fi
    done
}

put() {
    place "$file"
    new=$path.new.$$
    trap 'rm -f "$new"' EXIT
    umask 077
    cat >"$new" || fail "cannot write $path"
    [ "$(wc -c <"$new")" -eq "$size" ] || fail "$path did not arrive whole"
    chmod "$mode" "$new" || fail "cannot write $path"
    case $file in
        bin/*) why=$("$new" --version 2>&1) || unfit "$path does not run there: $(echo "$why" | head -n 1)" ;;
    esac
    mv -f "$new" "$path" || fail "cannot write $path"
}

# Is the parent of the node's process, and stays when the connection ends; writes down how it ended.
keep() {
    trap '' HUP
    "$dir/bin/$program" --config "$dir/config.toml" --id "$node" 3>&- &
    child=$!
    start_of "$child"
    if ! { echo "$child $started $boot" >"$run/$node.pid.new" && mv -f "$run/$node.pid.new" "$run/$node.pid"; }
    then
        # A process that no pid file names could never be stopped.
        kill -s KILL "$child"
        echo "cannot write $run/$node.pid" >&3
        exit
    fi
    echo "started $child $started" >&3
    exec 3>&-
    wait "$child"
    echo "$child $started $?" >"$run/$node.exit.new" && mv -f "$run/$node.exit.new" "$run/$node.exit"
}

start() {
    lives "$node" && { echo "started $pid $start"; exit; }
    log=$data/logs/$node.log
    rm -f "$run/$node.addr" "$run/$node.exit"
    [ ! -f "$log" ] || [ "$(wc -c <"$log")" -le "$rotate" ] || mv -f "$log" "$log.1"
    : >>"$log" || fail "cannot write $log"
    cd "$dir" || fail "cannot enter $dir"
    # By `exec`: redirections of the call itself would leave copies of the connection open in it, for ever.
    (
        exec 3>&1 </dev/null >>"$log" 2>&1
        keep
    ) &
}

signal() {
    lives "$node" && [ "$pid $start" = "$process" ] || exit 0
    why=$(kill -s "$signal" "$pid" 2>&1) || ! lives "$node" || fail "$why"
}

show() {
    log=$data/logs/$node.log
    [ -f "$log" ] || exit 0
    [ "$follow" = yes ] || { tail -n "$lines" "$log"; exit; }
    { tail -n "$lines" -F "$log" 2>/dev/null || tail -n "$lines" -f "$log"; } </dev/null &
    following=$!
    # The end of the input is the end of the connection, or of the interest.
    cat >/dev/null
    kill "$following" 2>/dev/null
}

remove() {
    [ -n "$owner" ] || exit 0
    if [ -d "$data" ]; then
        real=$(cd "$data" && pwd -P) && home=$(cd "$dir" && pwd -P) || fail "cannot enter $data"
        case $home/ in "${real%/}"/*) fail "$data holds $dir as well: not removed" ;; esac
        [ -d "$run" ] || fail "$data does not look like the data of a store: not removed"
        for file in "$run"/*.pid; do
            name=${file##*/}
            ! lives "${name%.pid}" || fail "${name%.pid} still runs: nothing is removed"
        done
        why=$(rm -rf "$real" 2>&1) || fail "$why"
        [ ! -h "$data" ] || rm -f "$data"
    fi
    why=$(rm -rf "$dir/bin" "$dir/config.toml" "$dir/catalogue.csv" "$dir/store" 2>&1) || fail "$why"
    # What somebody else has put there stays.
    rmdir "$dir" 2>/dev/null
    echo removed
}

"$verb"
