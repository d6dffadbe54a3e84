#!/usr/bin/env perl
# Shards on an S3 store and a web server: the same samples as from files; signatures, odd keys, lost connections, servers
# that are busy, slow, stopped or liars, objects that change, missing keys; and no secret in anything that is written.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(time);
use lib abs_path('tests/lib');
use Store;
my $bin = abs_path($ENV{BIN} // 'bin');
my $tool = "$bin/shard-read";
my $data = abs_path('tests/data');
my $build = abs_path($ENV{BUILD} // 'build/release');
my $root = abs_path('.');
my $dir = tempdir(CLEANUP => 1);
chdir $dir or die;
plan skip_all => 'this build has no libcurl' if `$tool -o none s3://b/x.tar 2>&1` =~ /made without libcurl/;

delete @ENV{grep { /^AWS_|_proxy$/i } keys %ENV};
$ENV{HOME} = "$dir/home";
make_path('home/.aws', 'root/b/sub', 'root/public', 'root/web', 'root/new');
my $odd = "dir x/a b+c:d=e&f%41~\xc3\xbc'(x)?#.tar";
make_path('root/b/dir x');
copy("$data/shards/$_", "root/b/$_") or die for qw(00000.tar 00001.tar zero-byte.tar);
copy("$data/shards/00002.tar", "root/$_") or die for "b/$odd", 'public/00002.tar', 'web/00002.tar', 'b/sub/z.tar';
copy("$data/shards/00000.tar", 'root/web/00000.tar') or die;
my $store = Store->new_at('root');
my %env = $store->env;
my $url = $store->url;

sub slurp { my ($f) = @_; local $/; open my $h, '<:raw', $f or return ''; my $t = <$h>; return $t // ''; }
our $said;
# Runs a tool with these variables; the exit status, -1 for a signal.
sub run {
    my ($vars, @words) = @_;
    my $pid = fork // die;
    if (!$pid) {
        $ENV{$_} = $vars->{$_} for keys %$vars;
        open STDERR, '>', 'said' or die;
        open STDIN, '<', '/dev/null';
        exec @words;
    }
    waitpid $pid, 0;
    my $rc = $?;
    $said = slurp('said');
    return $rc & 127 ? -1 : $rc >> 8;
}
# Blocks of 128 KiB, so that a shard has several. The index is compared too: keys, statuses, names.
my @small = ($tool, '-q', '--size', 32, '--mem', '1M');
sub reads {
    my ($vars, @words) = @_;
    unlink 'got', 'got.tsv';
    return run($vars, @small, '-o', 'got', '--index', 'got.tsv', @words);
}
sub local_is { run({}, @small, '-o', 'want', '--index', 'want.tsv', @_) == 0 or die $said; }
sub same { return slurp('got') ne '' && slurp('got') eq slurp('want') && slurp('got.tsv') eq slurp('want.tsv'); }
sub good { my ($what, @words) = @_; is(reads(\%env, @words), 0, $what) or diag($said); ok(same(), "$what: the same bytes"); }
sub bad {
    my ($what, $like, $vars, @words) = @_;
    is(reads($vars, @words), 1, "$what fails");
    like($said, $like, "$what is named");
    is(() = $said =~ /\n/g, 1, "$what: one line") or diag($said);
    ok(!-e 'got' && !-e 'got.tsv', "$what leaves no output");
    unlike($said, qr/\Q$Store::SECRET\E|\Q$Store::ID\E|X-Amz|Signature=/, "$what: no secret in the message");
}

# ---- the same as files
local_is("$data/shards/00000.tar", "$data/shards/00001.tar");
good('two objects', 's3://b/00000.tar', 's3://b/00001.tar');
ok((grep { m{^GET /b/00000.tar bytes=131072-262143 206$} } $store->log) == 1, 'read in blocks, each once') or diag(join "\n", $store->log);
good('a pattern', 's3://b/0000{0,1}.tar');
good('joined', 's3://b/00000.tar::s3://b/00001.tar');
Store::put('list', "s3://b/00000.tar\ns3://b/00001.tar\n");
good('from a list', '--files-from', 'list');
good('threads', '-t', 3, 's3://b/0000{0,1}.tar');
for my $part (1, 2) {
    local_is('--shuffle', 7, '--part', "$part/2", "$data/shards/00000.tar", "$data/shards/00001.tar");
    good("shuffled, part $part", '--shuffle', 7, '--part', "$part/2", 's3://b/0000{0,1}.tar');
}
local_is("$data/shards/zero-byte.tar");
good('an empty object', 's3://b/zero-byte.tar');
local_is("$data/shards/00000.tar");
good('a web server', "$url/web/00000.tar");
copy("root/b/$odd", (split m{/}, $odd)[1]) or die;
local_is('--files-from', do { Store::put('list', (split m{/}, $odd)[1] . "\n"); 'list' });
Store::put('list', "s3://b/$odd\n");
good('an odd key', '--files-from', 'list');

# ---- a folder
{
    my $s = Store->new_at('root', page => 2);
    my %e = $s->env;
    copy("$data/shards/00002.tar", 'root/b/00002.tar.odd') or die;
    local_is("$data/shards/0000{0,1}.tar", "$data/shards/zero-byte.tar");
    is(reads(\%e, 's3://b/'), 0, 'a folder, in pages of two') or diag($said);
    ok(same(), 'its archives, by name');
    is((grep { /list-type/ } $s->log), 2, 'two pages were asked for') or diag(join "\n", $s->log);
    $s->faults('list-type 1 cut 300');
    bad('a listing cut off', qr{cannot list 's3://b/': the store's listing .* was cut off}, \%e, 's3://b/');
    bad('a folder without archives', qr{no archives in 's3://b/none/'}, \%e, 's3://b/none/');
    bad('no such bucket', qr{NoSuchBucket}, \%e, 's3://nobucket/');
    bad('a folder of a web server', qr{cannot be listed}, \%e, $s->url . '/web/');
    my @keys = map { "s3://b/dir x/" . (split m{/}, $odd)[1] } 1;
    local_is('--files-from', do { Store::put('list', (split m{/}, $odd)[1] . "\n"); 'list' });
    is(reads(\%e, 's3://b/dir x/'), 0, 'an odd key out of a listing') or diag($said);
    ok(same(), 'is read');
}

# ---- shard-list and its links
{
    my $s = Store->new_at('root', page => 2);
    my %e = $s->env;
    my $list = "$bin/shard-list";
    is(run(\%e, $list, '-o', 'l', 's3://b', 's3://b/sub'), 0, 'shard-list') or diag($said);
    is(join(' ', map { (split /\t/)[0] } split /\n/, slurp('l')), 's3://b/00000.tar s3://b/00001.tar s3://b/sub/z.tar s3://b/zero-byte.tar',
        'the archives of both folders, sorted by their stems');
    like(slurp('l'), qr{^s3://b/00000\.tar\t368640\t\d+\t"\w+"$}m, 'bytes, time and tag');
    Store::put('names', "00001 nope\n00000\n");
    is(run(\%e, $list, '-o', 'l', '--names', 'names', $s->url . '/web'), 0, 'of a web server') or diag($said);
    is(join(' ', map { (split /\t/)[0] } split /\n/, slurp('l')), $s->url . '/web/00000.tar', 'those that are there');
    is(run(\%e, $list, '-o', 'l', $s->url . '/web'), 1, 'a web server without names');
    like($said, qr/cannot be listed/, 'is refused');
    is(run(\%e, $list, '-o', 'l', 's3://b', 's3://b'), 1, 'a shard twice');
    like($said, qr/have one name/, 'is refused');
    is(run(\%e, $list, 'here'), 2, 'a folder of this machine is wrong usage');
    mkdir 'links';
    Store::put('links/mine.tar', 'a file of mine');
    Store::put('links/gone.tar', "clip-cid remote shard\ns3://b/gone.tar\n");
    is(run(\%e, $list, '--links', 'links', 's3://b'), 0, 'links') or diag($said);
    is(join(' ', map { s{.*/}{}r } glob 'links/*'), '00000.tar 00001.tar mine.tar zero-byte.tar', 'one for each shard; those that are gone are removed, other files are left');
    local_is("$data/shards/0000{0,1}.tar");
    is(reads(\%e, 'links/00000.tar', 'links/00001.tar'), 0, 'a link is read') or diag($said);
    ok(same(), 'as what it stands for');
    is(reads(\%e, '--limit', 3, 'links/00000.tar'), 0, '--limit');
    ok((grep { m{GET /b/00000.tar bytes=262144} } $s->log) < 3, 'does not read on');
    Store::put('links/bad.tar', "clip-cid remote shard\ngopher://x\n");
    bad('a spoilt link', qr{links/bad\.tar: cannot open: the link to a remote shard is spoilt}, \%e, 'links/bad.tar');
    bad('a link to nothing', qr{gone2\.tar: s3://b/gone\.tar: cannot open: there is no such object}, \%e, do { Store::put('gone2.tar', "clip-cid remote shard\ns3://b/gone.tar\n"); 'gone2.tar' });
    Store::put('links/00000.tar', 'mine now');
    is(run(\%e, $list, '--links', 'links', 's3://b'), 1, 'a file in the way of a link');
    is(slurp('links/00000.tar'), 'mine now', 'is kept');
}

# ---- what passes
local_is("$data/shards/00000.tar");
$store->faults('00000 3 cut 1000');
good('a connection cut three times', 's3://b/00000.tar');
ok((grep { m{bytes=1000-131071 206} } $store->log), 'goes on at the byte') or diag(join "\n", $store->log);
$store->faults('00000 2 close');
good('closed before the answer', 's3://b/00000.tar');
$store->faults('00000 1 503 Retry-After:_1');
my $start = time;
good('status 503', 's3://b/00000.tar');
ok(time - $start >= 1, 'Retry-After is followed');
$store->faults('00000 1 503 Retry-After:_Fri,_24_May_2013_00:00:00_GMT', '00000 1 429', '00000 1 500');
good('a date that is over, 429 and 500', 's3://b/00000.tar');
$store->faults('00000 1 stall 5000');
good('a server that stops in the middle', '--timeout', 1, 's3://b/00000.tar');
ok((grep { m{bytes=5000-} } $store->log), 'goes on at the byte');
$store->faults('.* 99 weak');
good('weak tags', 's3://b/00000.tar');
ok((!grep { / 412$/ } $store->log), 'are not sent back');
$store->faults('.* 99 no-etag');
good('no tags', 's3://b/00000.tar');
local_is("$data/shards/00002.tar");
$store->faults('00002 1 slow 0.01');
good('a slow server', '--timeout', 2, 's3://public/00002.tar');
$store->faults('00002 9 whole');
good('a small file from a server without ranges', "$url/web/00002.tar");

# ---- what does not
$store->faults();
bad('a wrong secret', qr{^shard-read: s3://b/00000\.tar: cannot open: the server answers 403 SignatureDoesNotMatch: the secret access key is wrong$},
    { %env, AWS_SECRET_ACCESS_KEY => 'wrong' }, 's3://b/00000.tar');
bad('an unknown key', qr{InvalidAccessKeyId: the store does not know the access key id}, { %env, AWS_ACCESS_KEY_ID => 'AKIAOTHER' }, 's3://b/00000.tar');
bad('half a pair of keys', qr{the secret access key is not}, { AWS_ACCESS_KEY_ID => 'x' }, 's3://b/00000.tar');
bad('no keys', qr{403 AccessDenied: the request was anonymous, as no keys were found}, { AWS_ENDPOINT_URL => $url }, 's3://b/00000.tar');
bad('a missing key', qr{^shard-read: s3://b/no\.tar: cannot open: there is no such object \(404\)$}, \%env, 's3://b/00000.tar', 's3://b/no.tar');
bad('a missing file', qr{there is no such file \(404\)}, \%env, "$url/web/no.tar");
bad('no key', qr{no key in it}, \%env, 's3://b');
bad('a password in a URL', qr{https://h/x\.tar: cannot open: a user or password in a URL}, \%env, 'https://me:hunter2@h/x.tar');
unlike($said, qr/hunter2/, 'which is not shown');
bad('nobody there', qr{http://127\.0\.0\.1:1/x\.tar: cannot open: .*connect.*\(2 tries\)}, \%env, '--retries', 1, 'http://127.0.0.1:1/x.tar');
$store->faults('00000 99 500');
bad('500 for ever', qr{the server answers 500 Fault \(3 tries\)$}, \%env, '--retries', 2, 's3://b/00000.tar');
is(scalar(() = $store->log), 3, 'as often as it says') or diag(join "\n", $store->log);
$store->faults('00000 1 ok', '00000 99 close');
bad('lost in the middle', qr{s3://b/00000\.tar: record \d+: cannot read: .*\(3 tries\)}, \%env, '--retries', 2, 's3://b/00000.tar');
for my $how ('swap', 'swap-quiet', 'swap-no-etag') {
    copy("$data/shards/00000.tar", 'root/b/moving.tar') or die;
    utime 1e9, 1e9, 'root/b/moving.tar';
    Store::put('root/new/moving.tar', slurp("$data/shards/00001.tar") . ("\0" x (368640 - 348160)));
    $store->faults($how eq 'swap-no-etag' ? 'moving 1 no-etag' : 'moving 1 ok', "moving 99 $how new/moving.tar");
    bad("an object changed in the middle ($how)", qr{s3://b/moving\.tar: record \d+: cannot read: it was changed while it was read}, \%env, 's3://b/moving.tar');
}
$store->faults('00000 99 whole');
bad('a large file without ranges', qr{does not answer ranges}, \%env, 's3://b/00000.tar');
$store->faults('00000 99 shift');
bad('other bytes than asked for', qr{other bytes than those that were asked for}, \%env, 's3://b/00000.tar');
$store->faults('00000 99 302 Location:_file:///etc/passwd');
bad('a redirect to a file', qr{http://\S+: cannot open}, \%env, '--retries', 0, "$url/web/00000.tar");
for my $raw ('', "\0\1\2\3\n\n", 'HTTP/1.1 206', "HTTP/1.1 206 X\r\nContent-Range: bytes 0-\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
    "HTTP/1.1 206 X\r\nContent-Range: bytes 5-2/1\r\n\r\n", "HTTP/1.1 206 X\r\nContent-Length: 3\r\nContent-Range: bytes 0-131071/9\r\n\r\nabc",
    "HTTP/1.1 200 X\r\n" . ('a: ' . 'b' x 9000 . "\r\n") x 40 . "\r\n") {
    $store->faults('00000 99 raw ' . (unpack('H*', $raw) || '00'));
    bad('garbage', qr{s3://b/00000\.tar: cannot open: }, \%env, '--retries', 1, 's3://b/00000.tar');
}
# An archive that is damaged is one here too, not a failed read.
copy("$data/shards/truncated-member.tar", 'root/b/t.tar') or die;
is(run({}, @small, '-o', 'want', "$data/shards/truncated-member.tar"), 1, 'a damaged file');
(my $as_file = $said) =~ s{\S+/truncated-member}{T}g;
$store->faults();
is(run(\%env, @small, '-o', 'got', 's3://b/t.tar'), 1, 'a damaged object');
(my $as_object = $said) =~ s{s3://b/t\.tar}{T.tar}g;
is($as_object, $as_file, 'in the same words');

# ---- who we are
local_is("$data/shards/00002.tar");
is(reads({ AWS_ENDPOINT_URL => $url }, 's3://public/00002.tar'), 0, 'no keys: anonymous');
ok(same(), 'what is public is read');
is(reads({ %env, AWS_SECRET_ACCESS_KEY => 'wrong', AWS_NO_SIGN_REQUEST => 'YES' }, 's3://public/00002.tar'), 0, 'AWS_NO_SIGN_REQUEST');
local_is("$data/shards/00000.tar");
Store::put('home/.aws/credentials', "# keys\n[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key=no\n\n[ me ]\naws_access_key_id=$Store::ID\n"
    . "aws_secret_access_key = $Store::SECRET ; mine\n[half]\naws_access_key_id = x\n");
Store::put('home/.aws/config', "[default]\nregion = a-b-1\n[profile me]\nregion=eu-test-1\ns3 =\n  addressing_style = path\nendpoint_url = $url\r\n"
    . "[profile single]\nsso_session = x\n[profile svc]\nservices = here\n[services here]\ns3 =\n  endpoint_url = $url\nec2 =\n  endpoint_url = http://127.0.0.1:2\n");
is(reads({ AWS_PROFILE => 'me' }, 's3://b/00000.tar'), 0, 'a profile of ~/.aws') or diag($said);
ok(same(), 'with its keys, region and endpoint');
is(reads({ AWS_PROFILE => 'svc', AWS_ACCESS_KEY_ID => $Store::ID, AWS_SECRET_ACCESS_KEY => $Store::SECRET }, 's3://b/00000.tar'), 0,
    'keys of the environment go before those of files; the endpoint of a service') or diag($said);
rename 'home/.aws', 'home/elsewhere';
is(reads({ AWS_PROFILE => 'me', AWS_SHARED_CREDENTIALS_FILE => 'home/elsewhere/credentials', AWS_CONFIG_FILE => 'home/elsewhere/config' },
    's3://b/00000.tar'), 0, 'files elsewhere');
rename 'home/elsewhere', 'home/.aws';
bad('a profile without keys of its own', qr{'single' come by sso_session, which is not supported: `aws configure export-credentials}, { AWS_PROFILE => 'single' }, 's3://b/00000.tar');
bad('no such profile', qr{AWS_PROFILE is 'nobody': no such profile}, { AWS_PROFILE => 'nobody' }, 's3://b/00000.tar');
bad('half a pair of keys in a file', qr{half a pair of keys}, { AWS_PROFILE => 'half' }, 's3://b/00000.tar');
{
    my $s = Store->new_at('root', token => 'FwoG/token+=' . 'x' x 900);
    is(reads({ $s->env, AWS_SESSION_TOKEN => $s->{token} }, 's3://b/00000.tar'), 0, 'a session token') or diag($said);
    bad('a wrong token', qr{InvalidToken: the session token is wrong}, { $s->env, AWS_SESSION_TOKEN => 'y' }, 's3://b/00000.tar');
}
my $signed = $store->presign('b', '00000.tar', 60);
is(reads({}, $signed), 0, 'a pre-signed URL, without keys') or diag($said);
ok(same(), 'gives the same stream: its query is nowhere in it');
bad('one that has expired', qr{http://127\.0\.0\.1:\d+/b/00000\.tar\?\.\.\.: cannot open: the server answers 403 AccessDenied: the signature in the URL is wrong or has expired$},
    {}, $store->presign('b', '00000.tar', 1, time - 3600));
bad('two of one name', qr{'http\S+\?\.\.\.' and 's3://b/00000\.tar' have one name}, \%env, $signed, 's3://b/00000.tar');

# ---- teacher-embed
my @embed = ("$bin/teacher-embed", '-q', '-m', "$data/models/odd", '--tokenizer', "$data/tokenizer/openai");
is(run({}, @embed, '--image-out', 'a.npy', '--text-out', 'b.npy', '--shards', "$data/shards/00000.tar"), 0, 'teacher-embed from a file') or diag($said);
is(run({}, @embed, '--image-out', 'c.npy', '--text-out', 'd.npy', '--shards', $signed), 0, 'and from a URL') or diag($said);
is(slurp('c.npy'), slurp('a.npy'), 'the same pictures');
is(slurp('d.npy'), slurp('b.npy'), 'the same captions');
unlike(slurp('c.npy.json') . slurp('d.npy.json'), qr/X-Amz|Signature/, 'no secret in the sidecars');
like(slurp('c.npy.json'), qr{"http://127\.0\.0\.1:\d+/b/00000\.tar\?\.\.\."}, 'which name what was read');
like(slurp('c.npy.json'), qr/"00000\.tar"/, 'and the shard');
is(run(\%env, @embed, '--image-out', 'c.npy', '--shards', 's3://b/no.tar'), 1, 'teacher-embed and a missing object');
like($said, qr{^teacher-embed: s3://b/no\.tar: cannot open: there is no such object}m, 'named');

# ---- TLS: its certificate is checked
SKIP: {
    skip 'no openssl', 6 if system('openssl version >/dev/null 2>&1');
    system("openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost >/dev/null 2>&1") and die;
    my $tls = Store->tls('root', 'cert.pem', 'key.pem');
    local_is("$data/shards/00002.tar");
    is(reads({ AWS_CA_BUNDLE => 'cert.pem' }, "https://localhost:$tls->{port}/web/00002.tar"), 0, 'https') or diag($said);
    ok(same(), 'the same bytes');
    bad('a certificate that nobody vouches for', qr{certificate}, {}, "https://localhost:$tls->{port}/web/00002.tar");
}

# ---- built without libcurl
my $probe = <<'C';
#include <stdio.h>
#include "remote/remote.h"
int main(void)
{
    const struct remote_options o = REMOTE_DEFAULTS;
    struct err e;
    struct remote *r = remote_new(&o, &e);
    int rc = !r || remote_open(r, "s3://b/k", &e) || puts(e.text) < 0;
    remote_free(r);
    return rc;
}
C
Store::put('probe.c', $probe);
my $cc = "gcc -D_GNU_SOURCE -I$root/lib -o probe probe.c $root/lib/remote/remote.c $build/libclipcid.a -lutf8proc -lm " . ($ENV{ASAN} ? '-fsanitize=address,undefined' : '');
is(system($cc), 0, 'without libcurl it compiles');
like(`./probe`, qr/^this build reads local files only: it was made without libcurl$/, 'and says so');
done_testing();
