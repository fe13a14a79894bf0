# coreutils: files, times, owners, links, sorting, splitting, sums, copying with holes and attributes.
cd /tmp
seq 1 20000 > numbers; wc numbers; md5sum numbers; sha256sum numbers; cksum numbers; b2sum numbers
sort -R --random-source=/dev/zero numbers | sort -n | cmp - numbers && echo sorted
sort -rn numbers | head -3; tail -n +19998 numbers; shuf -i 1-10 | sort -n | tr '\n' ' '; echo
split -l 5000 numbers part.; ls part.*; cat part.* | cmp - numbers && echo rejoined
head -c 100000 /dev/zero > zero; truncate -s 10M sparse; echo end >> sparse; cp --sparse=always sparse copy; stat -c '%n %s' sparse copy; cmp sparse copy && echo same
mkdir -p tree/a/b; ln numbers tree/hard; ln -s ../numbers tree/soft; stat -c '%F %h' tree/hard; readlink -f tree/soft
cp -a tree again; diff -r tree again && echo copied; mv again moved; rm -r tree; ls -R moved
touch -d '2001-02-03 04:05:06.789 UTC' old; stat -c '%y %a %U' old; ls -l --time-style=full-iso old | awk '{print $6, $7}'
chmod 4751 old; chown 12:34 old; stat -c '%a %u %g' old; install -m 640 old new; stat -c %a new
echo 'a:b:c' | cut -d: -f2; paste -d, numbers numbers | sed -n 77p; echo a b c | tr ' ' '\n' | tac | nl
printf 'x\nx\ny\n' | uniq -c; comm -12 part.aa part.aa | wc -l; fold -w 10 numbers | tail -1; printf "a\tb\n" | expand -t 4; od -An -tx1 -N8 numbers
date -d @1000000000 +%FT%T; env | grep -c TZ; nproc > /dev/null && echo nproc; basename /a/b.c .c; dirname /a/b.c; expr 6 '*' 7; factor 1234567890123; numfmt --to=iec 123456789
timeout 0.2 sleep 5; echo "timeout $?"; timeout -s KILL 0.2 sleep 5; echo "killed $?"
yes | head -100000 | wc -c; tee t1 t2 < part.ad | wc -l; cmp t1 t2 && echo teed
dd if=numbers of=dd bs=1k skip=3 seek=2 count=5 2>&1 | head -2; du --apparent-size -b dd; df -P /tmp | wc -l
mktemp -d /tmp/XXXXXX | wc -c; test -w numbers && echo writable; id -u; id -gn; whoami; uname -s; pwd -P; realpath --relative-to=/usr /tmp; link numbers linked; unlink linked; mkfifo p; stat -c %F p; sync; stty -F /dev/null 2>&1 | head -1
base64 numbers | base64 -d | cmp - numbers && echo base64; pr -l 20 -h title part.ad | sed -n '3,8p' | tr -s ' ' | cut -c18-; tsort <<END
a b
b c
END
nice -n 5 nice; nohup true 2>&1; stdbuf -oL echo unbuffered; csplit -s numbers 100 200; wc -l xx0*; ptx --version | head -1; seq -s, 1 9; printf '%05d|%-5s|%x\n' 42 ab 255; sum numbers; truncate -s 5 numbers; cat numbers
