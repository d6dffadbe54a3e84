#!/usr/bin/env perl
# Every tool while one call of the C library fails: the run must end with its usual output, or with
# status 1, a message, and nothing under an output's name or beside it. After a kill -9 the same
# command gives the usual output. FAULTS_MOST: places of each kind of call (3).
use strict;
use warnings;
use Cwd qw(abs_path);
use Errno qw(EACCES EAGAIN EDQUOT EINTR EIO EMFILE ENOMEM ENOSPC ESTALE);
use File::Copy qw(copy);
use File::Find qw(find);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test::More;
plan skip_all => 'the sanitizers bring their own allocator, which a preloaded one cannot replace' if $ENV{ASAN};
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $source = abs_path('tests/faults/inject.c');
my $pipeline = abs_path('pipeline.mk');
my $root = abs_path('.');
my $most = $ENV{FAULTS_MOST} // 3;
BAIL_OUT("FAULTS_MOST is '$most', not a number of places") if $most !~ /^[1-9]\d*$/;
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }
my $so = "$dir/inject.so";
is(system('cc', '-shared', '-fPIC', '-O1', '-o', $so, $source, '-ldl'), 0, 'what lets calls fail is built') or BAIL_OUT('no compiler');

# ---- inputs
copy($_, '.') or die for map { "$data/shards/0000$_.tar" } 0, 1;
make_path('model', 'student', 'rows', 'set/test');
copy($_, 'model/') or die for glob("$data/models/odd/open_clip*"), glob("$data/tokenizer/openai/*");
copy('model/open_clip_config.json', 'student/s.json') or die;
sub must { system('bash', '-c', "PATH=$bin:\$PATH; $_[0]") == 0 or die "$_[0]"; }
must('shard-read -q --size 29 -o samples 00000.tar');
must('teacher-embed -q -m model -o rows/00000.npy --text-out text.npy samples');
must('kmeans-cluster -q -k 4 --iterations 2 -o cells.npy rows/00000.npy');
make_path('stage');
my @pictures = (sort grep { -s $_ > 500 } map { glob "$data/images/$_" } qw(4*.jpg palette.png prog*.jpg *lossy.webp))[0 .. 3];
for my $i (0 .. $#pictures) {
    my ($ext) = $pictures[$i] =~ /\.(\w+)$/;
    copy($pictures[$i], "stage/s$i.$ext") or die;
    spew("stage/s$i.cls", $i % 2);
}
must('tar --sort=name --mtime=@1 --format=ustar -C stage -cf set/test/0.tar .');
spew('set/test/nshards.txt', "1\n");
spew('set/classnames.txt', "red thing\nblue thing\n");
spew('set/zeroshot_classification_templates.txt', "a {c}\n");

# ---- the commands; all write into out/, by relative paths, so that sidecars are the same
my %runs = (
    read => 'shard-read -q --max-bad 100% -t 2 --size 29 --index out/i.tsv --pixels out/p.npy -o out/s 00000.tar 00001.tar',
    count => 'shard-read -q --max-bad 100% --images no --part 2/2 --index out/i.tsv -o /dev/null 00000.tar 00001.tar',
    embed => 'teacher-embed -q -m model -o out/i.npy --text-out out/t.npy samples',
    direct => 'teacher-embed -q -m model --batch 16 --tokens-out out/k.npy --no-images --shards 00000.tar 00001.tar',
    kmeans => 'kmeans-cluster -q -k 6 --iterations 3 --checkpoint out/ck -o out/c.npy rows/00000.npy',
    labels => 'kmeans-cluster -q --assign cells.npy --labels-dir out/labels rows/00000.npy',
    balance => 'sem-balance -q --distance 0.2 --cells cells.npy --keep-dir out/keep --groups-dir out/groups -o out/b.json rows/00000.npy',
    train => 'distill-train -q --student student/s.json --tokenizer model -o out/st --resume --loss clip=1 --steps 3 --batch 8 --checkpoint-every 1 samples',
    eval => 'zs-eval -q -m model -o out/r.json set',
    report => 'cid-report -q --shards . -o out/report.html out/work',
);
my %before = (labels => ['out/labels'], balance => ['out/keep', 'out/groups']);
make_path(map { "work/$_" } qw(index keep groups embed/image));
must('shard-read -q --size 29 --index work/index/00000.tsv -o /dev/null 00000.tar');
must('cp rows/00000.npy* work/embed/image');
must('sem-balance -q --distance 0.2 --keep-dir work/keep --groups-dir work/groups -o work/balance.json work/embed/image/00000.npy');
my %codes = (memory => [ENOMEM], map => [ENOMEM], read => [EIO, ESTALE, EINTR], write => [ENOSPC, EIO], open => [EMFILE, EACCES], sync => [EIO],
    name => [EDQUOT], cut => [ENOSPC], remove => [EACCES], folder => [EACCES], thread => [EAGAIN], short => [0], die => [0]);

sub made { my %f; find({ no_chdir => 1, wanted => sub { $f{$_} = slurp($_) if -f } }, 'out'); return \%f; }
sub fresh { my ($name) = @_; remove_tree('out'); make_path('out', @{ $before{$name} // [] });
    must('cp -a work out/work') if $name eq 'report';
}
# Runs a scenario with what is in the environment: status (minus the signal), what it said.
my $said;
sub run { my ($name, %env) = @_;
    my ($tool, @args) = split / /, $runs{$name};
    my $pid = fork // die;
    if (!$pid) {
        alarm 60; # a run that hangs ends by SIGALRM
        %ENV = (%ENV, %env, LD_PRELOAD => $so);
        open STDERR, '>', 'said' or die;
        exec "$bin/$tool", @args;
    }
    waitpid $pid, 0;
    $said = slurp('said');
    return $? & 127 ? -($? & 127) : $? >> 8;
}
sub differing { my ($want, $have) = @_; return join ' ', grep { ($have->{$_} // "\1none") ne $want->{$_} } sort keys %$want; }

# What is wrong after a run with a fault: '' = nothing.
sub wrong { my ($name, $kind, $status, $want) = @_;
    my $have = made();
    return "ended by signal " . -$status if $status < 0 && $kind ne 'die';
    return $status == 0 && differing($want, $have) ? 'status 0, and not the usual ' . differing($want, $have) : '' if $status == 0;
    if ($kind eq 'die') {
        my $again = run($name);
        return "the run after it: status $again: $said" if $again;
        return differing($want, made()) ? 'the run after it: not the usual ' . differing($want, made()) : '';
    }
    return "status $status" if $status != 1;
    return 'not a word' if $said !~ /\S/;
    return "what it said does not name the tool: $said" if $said !~ /^\S*(?:shard-read|teacher-embed|kmeans-cluster|sem-balance|distill-train|zs-eval|cid-report): \S/m && $said !~ /^Fatal Internal Error in libarchive/m;
    # a checkpoint is of any step
    my @partial = grep { exists $have->{$_} && $have->{$_} ne $want->{$_} && !m{/ck$} } sort keys %$want;
    return "half an output: @partial" if @partial;
    for (grep { /report\.html$/ } keys %$have) { return "half a page: $_" if $have->{$_} !~ m{</html>\s*\z} }
    my @litter = $kind eq 'remove' ? () : grep { m{\.tmp(?:/|$)} } sort keys %$have;
    return @litter ? "left behind: @litter" : '';
}

# The first, the last, and others between them at equal distances; of one place, the first.
sub places { my ($n) = @_;
    return 1 .. $n if $n <= $most;
    my %p = map { (1 + int($_ * ($n - 1) / ($most > 1 ? $most - 1 : 1)) => 1) } 0 .. $most - 1;
    return sort { $a <=> $b } keys %p;
}

for my $name (sort keys %runs) {
    my @same;
    for (1, 2) {
        unlink 'count';
        fresh($name);
        is(run($name, INJECT_COUNT => "$dir/count"), 0, "$name: undisturbed") or diag $said;
        push @same, made();
    }
    # A page has the minute at which it was made.
    my %want = map { ($_ => $same[0]{$_}) } grep { ($same[1]{$_} // '') eq $same[0]{$_} && !/report\.html$/ } keys %{ $same[0] };
    ok(%want || $name eq 'report', "$name: outputs to compare");
    my %calls = map { split } split /\n/, slurp('count');
    ok($calls{memory} && $calls{open} && $calls{write}, "$name: calls are seen");
    for my $kind (sort keys %codes) {
        my @wrong;
        my @places = places($calls{$kind} // 0);
        for my $i (0 .. $#places) {
            my $code = $codes{$kind}[$i % @{ $codes{$kind} }];
            fresh($name);
            my $status = run($name, INJECT => "$kind:$places[$i]:$code");
            my $why = wrong($name, $kind, $status, \%want);
            push @wrong, "$kind:$places[$i]:$code: $why" if $why;
        }
        is(join("\n", @wrong), '', "$name: $kind, " . @places . ' of ' . ($calls{$kind} // 0) . ' places') if @places;
    }
}
done_testing();
