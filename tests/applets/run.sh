#!/bin/busybox sh
# Runs every case of a list inside a container or a chroot that holds only BusyBox, and prints a transcript that can be compared.
# Usage: run.sh CASES    (each line: "name: shell command"). Runs the same way on Linux and on MettEagle.
PATH=/bin; export PATH; TZ=UTC; export TZ
[ -e /bin/ls ] || /bin/busybox --install -s /bin
mkdir -p /tmp/applets
n=0
while IFS= read -r line; do
    case "$line" in ''|'#'*) continue;; esac
    n=$((n + 1))
    name=${line%%:*}; command=${line#*: }
    rm -rf /tmp/applets/w; mkdir /tmp/applets/w; cd /tmp/applets/w
    printf 'one\ntwo\nthree\n' > t; printf 'b 2\na 1\nc 3\n' > u
    echo "=== $n $name"
    timeout 20 sh -c "$command" < /dev/null > /tmp/applets/out 2>&1
    status=$?
    cat /tmp/applets/out
    echo "--- $status"
done < "$1"
