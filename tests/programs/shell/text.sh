# grep, sed, gawk, mawk, find, xargs, diff on generated data.
cd /tmp; mkdir t; cd t
i=0; while [ $i -lt 300 ]; do mkdir -p d$((i % 7))/e$((i % 5)); echo "line $i of file $((i * 37 % 101))" > d$((i % 7))/e$((i % 5))/f$i.txt; i=$((i + 1)); done
grep -rl 'file 7$' . | sort; grep -rhoE '[0-9]+ of file 9[0-9]' . | sort -n | tail -4; grep -rc line d0 | awk -F: '{s+=$2} END {print s}'; grep -P 'line (?=2\d\d)' -rh . | wc -l; grep -q absent -r .; echo "grep $?"
find . -name 'f1*.txt' -size -2 | wc -l; find . -type d | sort | head -5; find . -newer d0/e0/f0.txt -type f | wc -l > /dev/null; find . -name '*.txt' -print0 | xargs -0 -n 20 -P 4 cat | wc -l; find . -name 'f29?.txt' -exec sed -i 's/line/LINE/' {} +; grep -rh LINE . | sort; find . -empty; find . -name 'f2*' -delete; find . -type f | wc -l
seq 1 1000 | sed -n -e '/7$/{s/^/x/;p}' -e '$!d' | wc -l; printf 'one\ntwo\nthree\n' | sed -e '1!G;h;$!d'; echo abcabc | sed 's/b\(c\)/<\1>/g; y/a/A/'; seq 5 | sed '2,4{N;s/\n/+/}'
for awk in gawk mawk; do
  seq 1 5000 | $awk '{ n[$1 % 10] += $1; s += $1 * $1 } END { for (i = 0; i < 10; i++) printf "%d ", n[i]; print s; print length(n), substr("hello", 2, 3), toupper("x"), index("abc", "c"), sprintf("%.3f", atan2(1, 1)) }'
  echo 'a,b;c' | $awk '{ k = split($0, p, /[,;]/); print k, p[3]; gsub(/[abc]/, "[&]"); print }'
  $awk 'BEGIN { while (("echo one; echo two" | getline line) > 0) print "got", line; close("echo"); print "to sort" | "sort"; system("echo system") }' < /dev/null | sort
done
gawk 'BEGIN { PROCINFO["sorted_in"] = "@ind_str_asc"; a["x"]; a["b"]; a["m"]; for (k in a) printf "%s ", k; print strftime("%F", 0, 1); cmd = "tr a-z A-Z"; print "coprocess" |& cmd; close(cmd, "to"); cmd |& getline r; print r }'
printf '1\n2\n3\n' > a; printf '1\n3\n4\n' > b; diff -u --label a --label b a b; cmp a b; diff3 a b a; sdiff -w 20 a b
file -b a /bin/ls | cut -d, -f1-2
