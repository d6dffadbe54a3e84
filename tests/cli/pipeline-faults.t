#!/usr/bin/env perl
# pipeline.mk while a call of the C library fails in one tool after the other: each run stops and says why, the next one
# goes on, and in the end there are the bytes of an undisturbed run.
use strict;
use warnings;
use Cwd qw(abs_path);
use Errno qw(EDQUOT EIO EMFILE ENOMEM ENOSPC ESTALE);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
plan skip_all => 'the sanitizers bring their own allocator, which a preloaded one cannot replace' if $ENV{ASAN};
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
sub tar { my ($from, $to) = @_; system('tar', '--sort=name', '--mtime=@1', '--format=ustar', '-C', $from, '-cf', $to, '.') == 0 or die; remove_tree($from); }
my $so = "$dir/inject.so";
is(system('cc', '-shared', '-fPIC', '-O1', '-o', $so, 'tests/faults/inject.c', '-ldl'), 0, 'what lets calls fail is built') or BAIL_OUT('no compiler');

my @pictures = sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg palette.png prog*.jpg page.jpg);
make_path("$dir/shards", "$dir/eval/test", "$dir/teacher");
for my $s (0, 1) {
    make_path("$dir/stage");
    for my $i (0 .. 11) {
        my ($ext) = $pictures[($i + 5 * $s) % @pictures] =~ /\.(\w+)$/;
        copy($pictures[($i + 5 * $s) % @pictures], sprintf('%s/stage/%05d.%s', $dir, $i, $ext)) or die;
        spew(sprintf('%s/stage/%05d.txt', $dir, $i), "thing $i of $s");
    }
    tar("$dir/stage", "$dir/shards/0000$s.tar");
}
make_path("$dir/stage");
for my $i (0 .. 3) {
    my ($ext) = $pictures[$i] =~ /\.(\w+)$/;
    copy($pictures[$i], "$dir/stage/s$i.$ext") or die;
    spew("$dir/stage/s$i.cls", $i % 2);
}
tar("$dir/stage", "$dir/eval/test/0.tar");
spew("$dir/eval/test/nshards.txt", "1\n");
spew("$dir/eval/classnames.txt", "red thing\nblue thing\n");
spew("$dir/eval/zeroshot_classification_templates.txt", "a {c}\n");
copy($_, "$dir/teacher/") or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
copy("$dir/teacher/open_clip_config.json", "$dir/student.json") or die;
spew("$dir/conf.mk", <<"EOC");
SHARD_DIR := $dir/shards
SHARDS := 00000 00001
TEACHER := $dir/teacher
STUDENT := $dir/student.json
SIZE := 29
K := 3
BALANCE := --remove 0.3
CELLS := 2
TRAIN := --steps 4 --batch 6 --lr 1e-3 --warmup 2 --checkpoint-every 2
SHUFFLE := 8
EVAL_SETS := $dir/eval
T_big := 1
MEM := 256M
EOC
my $said;
sub make { my (%env) = @_;
    local @ENV{keys %env} = values %env;
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/w BIN=$bin V=1 >$dir/said 2>&1");
    $said = slurp("$dir/said");
    return $rc & 127 ? -1 : $rc >> 8;
}
sub made { my %f;
    for my $f (split /\n/, `cd $dir/w/test && find . -type f -not -path './log/*' -not -path './params/*' -not -name '.*'`) {
        $f{$f} = slurp("$dir/w/test/$f") unless $f =~ m{checkpoint|report\.html|\.jsonl$|\.lock$};
    }
    return \%f;
}
is(make(), 0, 'undisturbed') or diag $said;
my $whole = made();
remove_tree("$dir/w");
my @faults = (['shard-read', 'read:1:' . EIO], ['teacher-embed', 'read:1:' . ESTALE], ['teacher-embed', 'memory:500:' . ENOMEM],
    ['teacher-embed', 'write:1:' . ENOSPC], ['sem-balance', 'sync:1:' . EIO], ['kmeans-cluster', 'name:1:' . EDQUOT], ['shard-read', 'memory:700:' . ENOMEM], ['distill-train', 'memory:400:' . ENOMEM],
    ['distill-train', 'open:3:' . EMFILE], ['zs-eval', 'write:1:' . ENOSPC], ['cid-report', 'write:1:' . ENOSPC]);
my $failed = 0; # in the order of the stages: one that fails leaves the next to the next fault
for (@faults) {
    my ($tool, $fault) = @$_;
    # What shows how far a tool is may fail, and comes at any time: it is left alone.
    my $status = make(LD_PRELOAD => $so, INJECT_BUT => '/.progress/', INJECT_TOOL => $tool, INJECT => $fault);
    $failed += $status != 0;
    ok($status == 0 || $said =~ /\b$tool: \S|^Fatal Internal Error in libarchive: /m, "$tool, $fault: " . ($status ? 'stops and says why' : 'goes on')) or diag $said;
}
cmp_ok($failed, '>', @faults / 2, 'the faults are met');
is(make(), 0, 'in the end all is made') or diag $said;
my $have = made();
is(join(' ', grep { ($whole->{$_} // '-') ne ($have->{$_} // '-') } sort keys %{ { %$whole, %$have } }), '', 'as without faults');
done_testing();
