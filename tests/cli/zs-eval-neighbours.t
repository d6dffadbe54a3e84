#!/usr/bin/env perl
# zs-eval --teacher-image: the neighbours that a model shares with its teacher, and --task instance, against figures worked out
# here from teacher-embed's rows.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
use lib 'tests/lib';
use Npy;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
my $said;
sub run { my $rc = system("@_ 2>said"); $said = slurp('said'); return $rc >> 8; }
sub tar { my ($from, $to) = @_; system('tar', '--sort=name', '--mtime=@1', '--format=ustar', '-C', $from, '-cf', $to, '.') == 0 or die; }
sub rows { my $t = slurp($_[0]); my ($n, $d) = $t =~ /'shape': \((\d+), (\d+)\)/ or die;
    my @v = unpack 'f<*', substr $t, 10 + unpack('v', substr $t, 8, 2); return map { [@v[$_ * $d .. ($_ + 1) * $d - 1]] } 0 .. $n - 1; }
sub dot { my ($x, $y) = @_; my $s = 0; $s += $x->[$_] * $y->[$_] for 0 .. $#$x; return $s; }

# 16 pictures in two shards, in five groups, the last with one alone; the student is another model of another width.
my @pictures = sort grep { -s $_ > 300 } map { glob "$data/images/$_" } qw(4*.jpg grey*.png lo*.webp pal*.png prog*.jpg page.jpg la*.png rgb*.png *.webp);
my %seen;
@pictures = grep { !$seen{slurp($_)}++ } @pictures;
my $n = @pictures > 16 ? 16 : @pictures;
cmp_ok($n, '>=', 12, "$n pictures");
my @group = map { $_ == $n - 1 ? 4 : $_ % 4 } 0 .. $n - 1;
make_path('wds_x/test', 'wds_y/test');
for my $shard (0, 1) {
    make_path('stage');
    for my $i (grep { int($_ / ($n / 2)) == $shard } 0 .. $n - 1) {
        my ($ext) = $pictures[$i] =~ /\.(\w+)$/;
        copy($pictures[$i], sprintf 'stage/%03d.%s', $i, $ext) or die;
        spew(sprintf('stage/%03d.cls', $i), $group[$i]);
    }
    tar('stage', "wds_x/test/$shard.tar");
    system('rm', '-r', 'stage');
}
spew('wds_x/test/nshards.txt', "2\n");
spew('wds_x/classnames.txt', join '', map { "group $_\n" } 0 .. 4);
spew('wds_x/zeroshot_classification_templates.txt', "{c}\n");
make_path('teacher');
copy($_, 'teacher/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
spew('student.json', encode_json({ embed_dim => 20, vision_cfg => { image_size => 29, patch_size => 7, width => 12, layers => 1, head_width => 12 },
    text_cfg => { context_length => 11, vocab_size => 1214, width => 8, layers => 1, heads => 1 } }));
my $vocab = "$data/tokenizer/openai";
is(run("$bin/shard-read -q --size 29 -o s.samples $data/shards/00000.tar"), 0, 'samples') or diag $said;
is(run("$bin/distill-train -q --student student.json --tokenizer $vocab --loss clip --batch 4 --steps 2 -o student s.samples"), 0, 'a student') or diag $said;
sub embed { my ($model, $to, $how) = @_;
    make_path($to);
    for my $s (0, 1) { is(run("$bin/teacher-embed -q -m $model --out-dtype $how -o $to/$s.npy --shards wds_x/test/$s.tar --no-resume"), 0, "$to/$s") or diag $said; }
    return;
}
embed('teacher', 'rows', 'f32');
embed('student', 'own', 'f32');
my @t = map { rows("rows/$_.npy") } 0, 1;
my @s = map { rows("own/$_.npy") } 0, 1;
# The others in the order of their cosine; of equal ones the lowest.
sub ranking { my ($x, $i) = @_; my @c = map { dot($x->[$i], $x->[$_]) } 0 .. $#$x; return sort { $c[$b] <=> $c[$a] || $a <=> $b } grep { $_ != $i } 0 .. $#$x; }
sub shared { my ($x, $y, $k) = @_; my $sum = 0;
    for my $i (0 .. $#$x) { my %in = map { $_ => 1 } (ranking($x, $i))[0 .. $k - 1]; $sum += grep { $in{$_} } (ranking($y, $i))[0 .. $k - 1]; }
    return $sum / $k / @$x; }
sub zs { my ($how) = @_; unlink 'r'; my $rc = run("$bin/zs-eval -q $how -o r"); return $rc ? undef : decode_json((split /\n/, slurp('r'))[0]); }

my $r = zs('-m teacher --task neighbours --teacher-image rows wds_x');
ok($r, 'the teacher against itself') or diag $said;
is($r->{task}, 'neighbours', 'the task');
is($r->{metrics}{$_}, 1, "... $_") for 'neighbours@1', 'neighbours@10';
ok(!exists $r->{metrics}{'neighbours@100'}, 'of so few pictures there are no hundred');
cmp_ok(abs($r->{metrics}{mean_cosine} - 1), '<', 1e-6, '... mean cosine');
# Rotated: the columns in another order, some with another sign; and without sidecars.
make_path('rotated');
my $d = @{ $t[0] };
my $at = 0;
for my $s (0, 1) {
    my @x = rows("rows/$s.npy");
    npy("rotated/$s.npy", '<f4', @x . ", $d", pack 'f<*', map { my $x = $_; map { ($_ % 3 ? 1 : -1) * $x->[($_ + 5) % $d] } 0 .. $d - 1 } @x);
}
$r = zs('-m teacher --task neighbours --teacher-image rotated wds_x');
is($r->{metrics}{$_}, 1, "a rotated teacher: $_") for 'neighbours@1', 'neighbours@10';
cmp_ok($r->{metrics}{mean_cosine}, '<', 0.9, '... mean cosine is another');
$r = zs('-m student --task neighbours --teacher-image rows wds_x');
cmp_ok(abs($r->{metrics}{"neighbours\@$_"} - shared(\@t, \@s, $_)), '<', 1e-9, "a student: neighbours\@$_ " . $r->{metrics}{"neighbours\@$_"}) for 1, 10;
# Examples: the nearest by both, of pictures from the most to the fewest in common.
my @name = map { sprintf '%d.tar/%03d', int($_ / ($n / 2)), $_ } 0 .. $n - 1;
my %row = map { $name[$_] => $_ } 0 .. $n - 1;
is(scalar @{ $r->{neighbours} }, 5, 'five examples');
my @common;
for my $x (@{ $r->{neighbours} }) {
    my $i = $row{ $x->{of} };
    my @both = map { [ranking($_, $i)] } \@t, \@s;
    is("@{ $x->{teacher} }", join(' ', map { $name[$_] } @{ $both[0] }[0 .. 5]), "$x->{of}: the teacher's nearest");
    is("@{ $x->{student} }", join(' ', map { $name[$_] } @{ $both[1] }[0 .. 5]), '... the student\'s');
    my %in = map { $_ => 1 } @{ $both[0] }[0 .. 9];
    push @common, $x->{common};
    cmp_ok(abs($x->{common} - (grep { $in{$_} } @{ $both[1] }[0 .. 9]) / 10), '<', 1e-6, "... in common: $x->{common}");
}
is("@common", join(' ', sort { $b <=> $a } @common), '... in this order');
my @all = sort { $b <=> $a } map { my $i = $_; my %in = map { $_ => 1 } (ranking(\@t, $i))[0 .. 9]; scalar(grep { $in{$_} } (ranking(\@s, $i))[0 .. 9]) / 10 } 0 .. $n - 1;
cmp_ok(abs($common[0] - $all[0]) + abs($common[-1] - $all[-1]), '<', 1e-6, '... the most and the fewest that there are');
my $cosine = 0;
$cosine += dot($t[$_], $s[$_]) / $n for 0 .. $n - 1;
if (@{ $t[0] } == @{ $s[0] }) { cmp_ok(abs($r->{metrics}{mean_cosine} - $cosine), '<', 1e-5, "... mean cosine $cosine"); }
else { ok(!exists $r->{metrics}{mean_cosine}, '... of another width: no cosine'); }
$r = zs('-m student --teacher-image rows wds_x');
ok(exists $r->{metrics}{acc1} && exists $r->{metrics}{'neighbours@10'}, 'beside the figures of another task');
make_path('many/wds_x');
copy("rows/$_.npy", "many/wds_x/$_.npy") or die for 0, 1;
ok(zs('-m student --task neighbours --teacher-image many wds_x'), 'a folder for each set') or diag $said;

# Instance retrieval.
$r = zs('-m student --task instance wds_x');
ok($r, 'instance retrieval') or diag $said;
my ($ap, %hit, $queries) = (0);
for my $i (grep { $group[$_] < 4 } 0 .. $n - 1) {
    my @order = ranking(\@s, $i);
    my ($found, $sum, $first) = (0, 0);
    for my $k (0 .. $#order) { next if $group[$order[$k]] != $group[$i]; $first //= $k; $sum += ++$found / ($k + 1); }
    $ap += $sum / $found;
    $hit{$_} += $first < $_ for 1, 5, 10;
    $queries++;
}
cmp_ok(abs($r->{metrics}{mAP} - $ap / $queries), '<', 1e-9, "mAP $r->{metrics}{mAP}");
cmp_ok(abs($r->{metrics}{"recall\@$_"} - $hit{$_} / $queries), '<', 1e-9, "recall\@$_") for 1, 5, 10;

for my $case (
    ['-m student --task neighbours wds_x', 2, qr/needs --teacher-image/],
    ['-m student --task neighbours --teacher-image none wds_x', 1, qr{none/0\.npy}],
    ['-m student --task linear-probe --features tower --teacher-image rows wds_x', 2, qr/no --features tower/],
) {
    is(run("$bin/zs-eval -q $case->[0] -o r"), $case->[1], $case->[0]);
    like($said, $case->[2], '... is refused') or diag $said;
}
npy('rows/1.npy', '<f4', "3, $d", "\0" x (3 * $d * 4));
unlink 'rows/1.npy.json';
is(run("$bin/zs-eval -q -m student --task neighbours --teacher-image rows wds_x -o r"), 1, 'rows of other pictures');
like($said, qr/rows, the split \d+ pictures/, '... are refused');
done_testing();
