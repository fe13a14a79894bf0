#!/bin/busybox sh
# Runs every case of a list inside a container or a chroot that holds only BusyBox, and prints a transcript that can be compared.
# Usage: run.sh CASES    (each line: "name: shell command"), or run.sh FOLDER of scripts. Runs the same way on Linux and on MettEagle.
PATH=/bin; export PATH; TZ=UTC; export TZ
[ -e /bin/ls ] || /bin/busybox --install -s /bin
mkdir -p /tmp/applets
# A folder of its own for the next case.
begin() {
    cd /; rm -rf /tmp/applets/w; mkdir -p /tmp/applets/w; cd /tmp/applets/w
    echo "=== $1"
}
if [ -d "$1" ]; then
    for script in "$1"/*; do
        begin "script ${script##*/}"
        # On a terminal its jobs are seen as they are; elsewhere what it leaves in the background must not hold this up.
        if [ -t 1 ]; then timeout 60 sh "$script"; else timeout 60 sh "$script" < /dev/null > /tmp/applets/out 2>&1; fi
        status=$?
        [ -t 1 ] || cat /tmp/applets/out
        echo "--- $status"
    done
    exit
fi
n=0
while IFS= read -r line; do
    case "$line" in ''|'#'*) continue;; esac
    n=$((n + 1))
    name=${line%%:*}; command=${line#*: }
    begin "$n $name"
    printf 'one\ntwo\nthree\n' > t; printf 'b 2\na 1\nc 3\n' > u
    timeout 20 sh -c "$command" < /dev/null > /tmp/applets/out 2>&1
    status=$?
    cat /tmp/applets/out
    echo "--- $status"
done < "$1"
