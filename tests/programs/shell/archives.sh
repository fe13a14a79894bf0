# tar, gzip, bzip2, xz: trees with links, modes, times, holes and long names go through every compressor unchanged.
set -e
cd /tmp; mkdir -p tree/deep/$(printf 'n%.0s' $(seq 1 120))
cp -r /usr/share/perl/5.36.0/unicore tree/unicore 2> /dev/null || cp -r /usr/share/common-licenses tree/unicore
seq 1 50000 > tree/numbers; ln tree/numbers tree/hard; ln -s numbers tree/soft; mkfifo tree/fifo; truncate -s 3M tree/sparse; printf x >> tree/sparse; chmod 4755 tree/numbers; touch -d @123456789 tree/numbers
for how in --gzip --bzip2 --xz; do
  tar $how -cSf tree.tar tree; rm -rf out; mkdir out; tar -xf tree.tar -C out; diff -r --no-dereference tree out/tree > difference || cat difference
  stat -c '%a %h %Y %s' out/tree/numbers; stat -c '%F' out/tree/fifo out/tree/soft; tar -tf tree.tar | wc -l
done
tar -cf - tree | (cd out && tar -xf - --transform 's/^tree/renamed/'); ls out
tar -cf inc.tar tree/numbers; echo more > tree/more; tar -rf inc.tar tree/more; tar -df inc.tar && echo equal; tar -tf inc.tar
for z in gzip bzip2 xz; do $z -9 -k -c tree/numbers > z; $z -t < z; $z -dc < z | cmp - tree/numbers; printf '%s %s\n' $z "$(stat -c %s z)"; done
head -c 2000000 /dev/zero | gzip -1 | gzip -dc | wc -c; xz -T2 -c tree/numbers | xz -dc | md5sum; echo damaged | gzip -dc 2>&1 | sed 's/.*: //' || true
zcat /dev/null 2> /dev/null || echo "zcat $?"; zgrep -c 7 z 2> /dev/null || true
