# bash: arrays, process substitution, coprocesses, job control, read with a timeout, extended globs.
cat > /tmp/work.bash <<'END'
set -u
declare -A ages=([ann]=31 [bob]=27)
for name in "${!ages[@]}"; do echo "$name ${ages[$name]}"; done | sort
mapfile -t lines < <(seq 1 5); echo "${#lines[@]} lines, last ${lines[-1]}"
diff <(printf 'a\nb\n') <(printf 'a\nc\n'); echo "diff $?"
coproc bc_like { while read -r a b; do echo $((a + b)); done; }
echo "20 22" >&"${bc_like[1]}"; read -r answer <&"${bc_like[0]}"; echo "coproc $answer"
eval "exec ${bc_like[1]}>&-"; wait "$bc_like_PID"; echo "coproc ended $?"
read -r -t 0.1 nothing < <(sleep 1); echo "timed out $(($? > 128))"
shopt -s extglob nullglob
mkdir -p /tmp/g; touch /tmp/g/{a,b,c}.{txt,log}; cd /tmp/g; echo !(*.log) ; echo *.none
set -m; sleep 30 & kill -STOP %1; sleep 0.1; jobs | sed 's/  */ /g'; kill -CONT %1; kill %1; wait %1; echo "job $?"; set +m
printf '%(%Y-%m-%d)T\n' 86400
trap 'echo "caught $?"' ERR; false; trap - ERR
time_it() { local TIMEFORMAT=%R; { time sleep 0.05; } 2>&1; }; [[ $(time_it) =~ ^0\.[0-9]+$ ]] && echo timed
x=$(for i in {1..300}; do echo -n $((i * i)),; done); echo "${#x} ${x:0:20}"
[[ "abc123" =~ ([a-z]+)([0-9]+) ]] && echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
printf '%s\n' "${BASH_VERSINFO[0]}" "$UID" "$HOSTNAME" "$(ulimit -s)"
for i in $(seq 1 20); do (exit $i) & pids[i]=$!; done; total=0; for p in "${pids[@]}"; do wait $p; total=$((total + $?)); done; echo "total $total"
END
bash /tmp/work.bash
