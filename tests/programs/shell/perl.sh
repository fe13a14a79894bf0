# perl: regular expressions, hashes, files, processes, pipes, signals, sockets, threads of the C library through modules.
cat > /tmp/w.pl <<'END'
use strict; use warnings; use POSIX qw(:sys_wait_h strftime floor); use File::Temp qw(tempdir); use File::Find; use Digest::SHA qw(sha1_hex); use Socket; use IO::Select; use Time::HiRes qw(sleep alarm); use Data::Dumper; use List::Util qw(sum shuffle);
$Data::Dumper::Sortkeys = 1; $Data::Dumper::Indent = 1; $| = 1;
my %count; $count{lc $1}++ while "The quick brown fox jumps over the lazy dog The end" =~ /(\w+)/g; print Dumper(\%count);
my $dir = tempdir(CLEANUP => 1); for my $i (1 .. 50) { open my $f, '>', "$dir/f$i" or die; print $f "x" x $i; close $f } my $size = 0; find(sub { $size += -s if -f }, $dir); print "size $size\n";
my @kids; for my $i (1 .. 8) { my $pid = fork // die; if (!$pid) { exit $i * 3 } push @kids, $pid } my $s = 0; for (@kids) { waitpid $_, 0; $s += $? >> 8 } print "children $s\n";
pipe my $r, my $w or die; if (!(my $pid = fork)) { close $r; print $w "line $_\n" for 1 .. 1000; exit 0 } close $w; my @l = <$r>; print "lines ", scalar @l, "\n"; wait;
my $hits = 0; $SIG{ALRM} = sub { $hits++ }; alarm 0.05; select undef, undef, undef, 1; print "alarms $hits\n"; $SIG{USR1} = sub { $hits += 10 }; kill USR1 => $$; print "hits $hits\n";
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die; syswrite $a, "ping"; my $sel = IO::Select->new($b); print "ready ", scalar($sel->can_read(1)), "\n" if 0; print "ready\n" if $sel->can_read(1); sysread $b, my $buf, 10; print "$buf\n";
open my $p, '-|', 'sort', '-n', '-r', '/tmp/nums' or die $!; my $first = <$p>; close $p; print "first $first";
print sha1_hex("abc"), " ", strftime("%F", gmtime 0), " ", floor(-2.5), " ", sum(1 .. 100), "\n"; my @sorted = sort { $a <=> $b } map { ($_ * 7919) % 1009 } 1 .. 1000; print "@sorted[0 .. 4]\n"; printf "%.10f %s\n", exp(1), 2 ** 64; my $t = join ',', map { sprintf "%02x", $_ } unpack 'C*', pack 'Nn', 1, 2; print "$t\n"; my $out = qx(echo sub; exit 4); print $out, $? >> 8, "\n"; eval { die { code => 5 } }; print "died $@->{code}\n"; local $_ = "x" x 100000; print length(s/x/yy/gr), "\n"; sleep 0.01; print "errno ", (open(my $n, '<', '/none') ? 0 : $! + 0), "\n"; rename "$dir/f1", "$dir/g1" or die; print join(' ', (stat "$dir/g1")[7, 3]), "\n"; truncate "$dir/g1", 0; print -z "$dir/g1" ? "empty\n" : "full\n"; my @g = glob "$dir/f4*"; print scalar @g, "\n"; 
END
seq 1 500 > /tmp/nums; perl -w /tmp/w.pl; perl -e 'print "$]\n"'; perl -MConfig -e 'print $Config{useithreads} ? "threads\n" : "none\n"'; perl -Mthreads -e 'my @t = map { my $n = $_; threads->create(sub { my $s = 0; $s += $_ for 1 .. 1000 * $n; $s }) } 1 .. 4; print join(" ", map { $_->join } @t), "\n"'
