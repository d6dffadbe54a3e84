#!/usr/bin/env perl
# pipeline.mk with SHARD_DIR on an S3 store and on a web server: the files of a local run; a shard that comes, or changes, is
# read, and the others are not; a store that refuses stops the run before its first stage.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use lib abs_path('tests/cli'), abs_path('tests/lib');
use Store;
use TestPipeline;
my $bin = abs_path($ENV{BIN} // 'bin');
plan skip_all => 'not all tools are built' if grep { !-x "$bin/$_" } qw(shard-read shard-list teacher-embed cid-report);
plan skip_all => 'this build has no libcurl' if `$bin/shard-list s3://b/ 2>&1` =~ /made without libcurl/;
my $dir = tempdir(CLEANUP => 1);
delete @ENV{grep { /^AWS_|_proxy$/i } keys %ENV};
$ENV{HOME} = $dir;
make_shards($dir, 3, 12);
make_teacher("$dir/teacher");
make_student("$dir/student.json");
make_path("$dir/root/laion/data", "$dir/root/web", "$dir/root/more");
for my $i (0, 1) {
    copy("$dir/shards/0000$i.tar", "$dir/root/$_/0000$i.tar") or die for 'laion/data', 'web';
    utime 1.6e9, 1.6e9, "$dir/root/$_/0000$i.tar" for 'laion/data', 'web';
}
my $store = Store->new_at("$dir/root", page => 1);
my %env = $store->env;
@ENV{keys %env} = values %env;

my $said;
sub make { my ($work, $place, @args) = @_;
    spew("$dir/conf.mk", join "\n", "SHARD_DIR := $place", 'SHARDS := 00000 00001 00002', "TEACHER := $dir/teacher", "STUDENT := $dir/student.json",
        'K := 2', 'BALANCE := --remove 0.1', 'TRAIN := --steps 2 --batch 4', 'T_big := 1', 'MEM := 256M', '');
    my $rc = system("make -f pipeline.mk DATA=test CONF=$dir/conf.mk WORK=$dir/$work BIN=$bin @args >$dir/said 2>&1 </dev/null");
    $said = slurp("$dir/said");
    return $rc >> 8;
}
sub files { my ($work) = @_; return map { s{^\Q$dir/$work/test/\E}{}r } glob("$dir/$work/test/{index,embed/image,embed/text}/*.{tsv,npy,missing}"); }
sub same { my ($work, $what) = @_;
    is(join(' ', files($work)), join(' ', files('local')), "$what: the files of a local run");
    is(join(' ', grep { slurp("$dir/$work/test/$_") ne slurp("$dir/local/test/$_") } files('local')), '', "$what: the same bytes");
}
sub read_now { return join ' ', sort keys %{ { map { m{^GET \S*/(\d+)\.tar } ? ($1 => 1) : () } $store->log } }; }

# A local run with the third shard not there yet.
unlink "$dir/shards/00002.tar.later";
rename "$dir/shards/00002.tar", "$dir/later.tar" or die;
is(make('local', "$dir/shards", 'index', 'embed'), 0, 'a local run') or diag $said;
is(make('s3', 's3://laion/data', 'index', 'embed'), 0, 's3') or diag $said;
same('s3', 's3');
like($said, qr{1 of 3 shards are not in 's3://laion/data' yet, the first is 00002\.tar}, 'what is missing is named');
is((stat "$dir/s3/test/remote/00000.tar")[9], 1.6e9, 'a link has the time of its shard');
like(slurp("$dir/s3/test/remote/00000.tar"), qr{^clip-cid remote shard\ns3://laion/data/00000\.tar\nbytes\t\d+\ntime\t1600000000\netag\t"}, 'and says what it stands for');
$store->faults();
is(make('s3', 's3://laion/data', 'index', 'embed'), 0, 'again') or diag $said;
is(read_now(), '', 'reads no shard');
is(scalar(grep { /list-type/ } $store->log), 2, 'asks for the list once') or diag join "\n", $store->log;

# One comes, one changes.
copy("$dir/later.tar", "$dir/root/laion/data/00002.tar") or die;
copy("$dir/later.tar", "$dir/root/laion/data/00001.tar") or die;
utime 1.6e9, 1.6e9, "$dir/root/laion/data/$_" for '00001.tar', '00002.tar'; # old, but others than before
$store->faults();
is(make('s3', 's3://laion/data', 'index', 'embed'), 0, 'one comes, one changes') or diag $said;
is(read_now(), '00001 00002', 'they are read, the other is not');
ok(!-e "$dir/s3/test/index/00002.missing", 'none is missing any more');
is(slurp("$dir/s3/test/index/00001.tsv"), slurp("$dir/s3/test/index/00002.tsv"), 'the changed one has a new index');
unlink "$dir/root/laion/data/00002.tar";
make('s3', 's3://laion/data', 'index');
ok(!-e "$dir/s3/test/remote/00002.tar", 'the link of one that is gone is removed');
ok(-e "$dir/s3/test/remote/00001.tar", 'the others stay');

# A web server; two folders.
is(make('web', $store->url . '/web', 'index', 'embed'), 0, 'a web server') or diag $said;
same('web', 'a web server');
unlink "$dir/root/laion/data/00001.tar";
copy("$dir/shards/00001.tar", "$dir/root/more/00001.tar") or die;
is(make('two', 's3://laion/data s3://more', 'index', 'embed'), 0, 'two folders') or diag $said;
same('two', 'two folders');
copy("$dir/shards/00000.tar", "$dir/root/more/00000.tar") or die;
isnt(make('twice', 's3://laion/data s3://more', 'index'), 0, 'a shard in two folders is refused');
like($said, qr{'s3://laion/data/00000\.tar' and 's3://more/00000\.tar' have one name}, 'and named');

# What cannot be read.
for (['SignatureDoesNotMatch', AWS_SECRET_ACCESS_KEY => 'wrong'], ['connect', AWS_ENDPOINT_URL => 'http://127.0.0.1:1']) {
    my ($words, $name, $value) = @$_;
    local $ENV{$name} = $value;
    isnt(make('refused', 's3://laion/data', 'index'), 0, "$words: fails");
    like((split /\n/, $said)[-1], qr/cannot list 's3:\/\/laion\/data\/': .*$words/i, "$words: the last line says so") or diag $said;
    ok(!-e "$dir/refused/test/index", "$words: before the first stage");
}
isnt(make('refused', "$dir/shards s3://laion/data", 'index'), 0, 'folders here and elsewhere');
like($said, qr/folders of this machine and of others do not go together/, 'are refused');
is(make('dry', 's3://laion/data', '-n', 'index'), 0, 'a dry run');
ok(!-e "$dir/dry", 'writes nothing');
isnt(system("grep -rqF -e '$Store::SECRET' -e '$Store::ID' $dir/s3 $dir/web $dir/two $dir/refused"), 0, 'no key in any file');
done_testing();
