# dash: jobs, traps, here documents, pipelines, substitutions, arithmetic.
set -e
fib() { if [ "$1" -lt 2 ]; then echo "$1"; else echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); fi; }
echo "fib $(fib 9)"
trap 'echo trapped USR1' USR1
kill -USR1 $$
(trap 'echo leaving; exit 3' EXIT; false) || echo "subshell $?"
sleep 0.3 & first=$!
sh -c 'exit 7' & second=$!
wait $second || echo "second $?"
wait $first; echo "first $?"
cat <<END | tr a-z A-Z
here document of $(basename "$0")
END
i=0; while [ $i -lt 200 ]; do i=$((i + 1)); echo $i; done | { sum=0; while read -r n; do sum=$((sum + n)); done; echo "sum $sum"; }
mkfifo /tmp/fifo; (echo through the fifo > /tmp/fifo) & read -r line < /tmp/fifo; echo "$line"
exec 3> /tmp/three; echo three >&3; exec 3>&-; cat /tmp/three
set +e
sh -c 'kill -TERM $$'; echo "killed $?"
/nonexistent 2> /dev/null; echo "missing $?"
/etc/passwd 2> /dev/null; echo "not executable $?"
ulimit -n 64; ulimit -n
umask 027; touch /tmp/masked; stat -c %a /tmp/masked
