#!/usr/bin/env perl
# teacher-embed: shards without samples stand in the sidecar, parts of shards are refused or marked, values that float16
# cannot hold are refused.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use JSON::PP;
use Test::More;
my $bin = abs_path($ENV{BIN} // 'bin');
my $data = abs_path('tests/data');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
sub spew { my ($f, $t) = @_; open my $h, '>:raw', $f or die; print $h $t; close $h or die; }
my $said;
sub run { my $rc = system('bash', '-c', "@_ 2>said"); $said = slurp('said'); return $rc & 127 ? -1 : $rc >> 8; }
my $embed = "$bin/teacher-embed -m $data/models/odd --tokenizer $data/tokenizer/openai";
my $read = "$bin/shard-read -q --size 29";
sub sidecar { return decode_json(slurp("$_[0].json")); }
sub names { return join ' ', map { $_->{name} } @{ sidecar($_[0])->{inputs} }; }
copy("$data/shards/$_.tar", '.') or die for qw(00002 zero-byte truncated-member garbage);
copy('zero-byte.tar', 'more.tar') or die;

# Shards after the last sample.
is(run("$read -o s zero-byte.tar 00002.tar more.tar"), 0, 'a shard among empty ones');
is(run("$embed -q -o i.npy s"), 0, 'a stream of them') or diag $said;
is(names('i.npy'), 'zero-byte.tar 00002.tar more.tar', 'all stand in the sidecar');
ok(!exists sidecar('i.npy')->{partial}, 'nothing is missing');
is(run("$embed -q -o d.npy --shards zero-byte.tar 00002.tar more.tar"), 0, 'read directly') or diag $said;
is(names('d.npy'), 'zero-byte.tar 00002.tar more.tar', 'all stand in the sidecar');
is(run("$read -o s zero-byte.tar && $embed -q -o i.npy s"), 0, 'only an empty one');
is(names('i.npy'), 'zero-byte.tar', 'stands in the sidecar');

# A damaged shard.
unlink 'i.npy', 'i.npy.json';
is(run("$read --max-bad 100% -o s truncated-member.tar"), 0, 'a damaged shard let through');
for my $how ('s', '--shards truncated-member.tar', '- < s') {
    is(run("$embed -q -o i.npy $how"), 1, "$how: refused");
    like($said, qr/^teacher-embed: \S*truncated-member.tar: .*damaged|^teacher-embed: \S*truncated-member.tar: record 3: truncated/, 'and named');
    like($said, qr/--partial/, 'with what takes it');
    ok(!-e 'i.npy' && !-e 'i.npy.json', 'no output');
}
is(run("$embed -q --partial -o i.npy s"), 0, '--partial') or diag $said;
is(run("$embed -q --partial -o d.npy --shards truncated-member.tar"), 0, 'and directly') or diag $said;
ok(slurp('i.npy') eq slurp('d.npy'), 'the same bytes');
ok(sidecar($_)->{partial} && sidecar($_)->{rows} == 3, "$_: the sidecar says so") for 'i.npy', 'd.npy';
is(run("$read --max-bad 100% -o s garbage.tar 00002.tar"), 0, 'a shard of nothing but damage, and a good one');
is(run("$embed -q -o x.npy s"), 1, 'refused');
is(run("$embed -q --partial -o x.npy s"), 0, '--partial');
is(names('x.npy'), 'garbage.tar 00002.tar', 'both stand in the sidecar');

# A part by choice.
for my $part ('--limit 2', '--skip 1', '--part 1/2', '--part 2/2') {
    is(run("$read -o s $part 00002.tar && $embed -o i.npy s"), 0, $part) or diag $said;
    ok(sidecar('i.npy')->{partial}, 'the sidecar says so');
}
is(run("$read -o s --limit 4 00002.tar && $embed -q -o i.npy s"), 0, 'a limit at the end');
ok(!exists sidecar('i.npy')->{partial}, 'leaves nothing out');

# Values that float16 cannot hold.
mkdir 'large';
copy("$data/models/odd/open_clip_config.json", 'large') or die;
my $file = slurp("$data/models/odd/open_clip_model.safetensors");
my $n = unpack 'Q<', $file;
my $head = decode_json(substr $file, 8, $n);
my ($from, $to) = @{ $head->{'visual.proj'}{data_offsets} };
is($head->{'visual.proj'}{dtype}, 'F32', 'a projection in float32');
my @w = map { $_ * 1e6 } unpack 'f<*', substr $file, 8 + $n + $from, $to - $from;
substr $file, 8 + $n + $from, $to - $from, pack 'f<*', @w;
spew('large/open_clip_model.safetensors', $file);
my $large = $embed =~ s/\Q$data\E\/models\/odd/large/r;
run("$read -o s 00002.tar");
is(run("$large -q -o l.npy s"), 0, 'unit rows') or diag $said;
is(run("$large -q --no-normalize -o l2.npy s"), 1, 'rows as they are');
like($said, qr/^teacher-embed: row 0: the image embedding holds \S+, over what float16 can: --out-dtype f32/, 'refused');
ok(!-e 'l2.npy', 'no output');
is(run("$large -q --no-normalize --out-dtype f32 -o l2.npy s"), 0, 'as float32') or diag $said;

# A signal: nothing is left, and how far it came is said.
run("$read -o s 00002.tar");
unlink glob 'i.npy*';
is(run("timeout --preserve-status -s TERM 3 $embed -o i.npy < <(head -c 3000 s; sleep 5)"), 128 + 15, 'SIGTERM while it waits for samples');
like($said, qr/^teacher-embed: stopped after 0 samples; no file was written, the same command makes it$/m, 'how far it came');
is(join(' ', glob 'i.npy* .i*'), '', 'nothing is left');

# Outputs, before anything is read.
is(run("$embed --batch 65536 -o no/such/m.npy /dev/stdin < /dev/null"), 1, 'an output that cannot be written');
like($said, qr{^teacher-embed: .*'no/such}, 'is said before the input is looked at');
is(run("$embed -o m.npy --shards missing.tar"), 1, 'a shard that is missing');
like($said, qr/^teacher-embed: cannot open 'missing.tar': No such file/, 'is named');
done_testing();
