#!/usr/bin/env perl
# clip-cid(7) names every tool, environment variable and conf file there is, and no pipeline variable that there is not;
# pages refer to pages that exist; README's and HACKING's names of files are right.
use strict;
use warnings;
use Test::More;
sub slurp { my ($f) = @_; local $/; open my $h, '<', $f or die "$f: $!"; return <$h> }
my $page = slurp('man/clip-cid.7');
my @tools = map { s{.*/}{}r =~ s{\.c$}{}r } glob('tools/*.c');
my @words = qw(one two three four five six seven eight nine ten);
my $count = $words[@tools - 1];
like($page, qr/\bis \Q$count\E tools\b/, 'the number of tools');
for my $t (@tools) { like($page, qr/^\.It Xr \Q$t\E 1$/m, "$t has its line") }
my %read;
for my $f (glob('lib/*/*.[ch] lib/*/*/*.[ch] lib/*/*/*.cu tools/*.c')) {
    my $text = slurp($f);
    $read{$1} = $f while $text =~ /getenv\("([A-Z_0-9]+)"\)/g;
    $read{$1} = $f if $f =~ /isa\.c$/ && $text =~ /"(CLIP_CID_\w+)"/;
}
delete @read{qw(OPENBLAS_CORETYPE ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA)}; # other projects'
ok(keys %read >= 3, 'environment variables are found in the sources');
my ($environment) = $page =~ /^\.Sh ENVIRONMENT\n(.*?)^\.Sh/ms;
for my $v (sort keys %read) { like($environment // '', qr/^\.It Ev (?:\w+ , )*\Q$v\E\b/m, "$v, which $read{$v} reads") }
my %documented = map { $_ => 1 } ($environment // '') =~ /^\.It Ev (\w+)$/mg;
is(join(' ', grep { !$read{$_} } sort keys %documented), '', 'no variable that nothing reads');
for my $conf (glob('conf/*.mk')) { like($page, qr/\Q$conf\E/, "$conf is named") }
my ($pipeline) = $page =~ /^\.Ss The pipeline\n(.*?)^\.S[hs]/ms;
my $mk = slurp('pipeline.mk');
for my $v ($pipeline =~ /\bEv (\w+)/g) { next if $v =~ /_$/; ok($mk =~ /^\Q$v\E [:?]?=/m, "pipeline.mk has $v") }
my @targets = map { split / , /, s/ [,.]$//r } $pipeline =~ /^\.Cm (.*)$/mg;
ok(@targets >= 8, 'targets are named');
for my $target (@targets) { ok($mk =~ /^## \Q$target\E:/m, "pipeline.mk has the target $target") }
for my $f (glob('man/*.[157]')) {
    my $text = slurp($f);
    my @missing;
    while ($text =~ /^\.Xr (\S+) ([157])\b/mg) { my ($name, $n) = ($1, $2); push @missing, "$name($n)" if $name =~ /^(?:clip-cid|samples|shard-read|teacher-embed|sem-balance|kmeans-cluster|distill-train|zs-eval|cid-report)/ && !-e "man/$name.$n" }
    is("@missing", '', "$f refers to pages that exist");
}
for my $f ('README.md', 'HACKING.md') {
    my @missing = grep { !-e && !-e "$_.c" } slurp($f) =~ /`((?:man|conf|bench|tests|scripts|lib)\/[\w.\/-]+)`/g;
    is(join(' ', grep { !/^conf\/(?:mine|NAME)\.mk$/ } @missing), '', "$f names files that exist");
}
done_testing();
