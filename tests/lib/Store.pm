# An S3 store and web server on the loopback for tests: reads from a folder, checks the AWS signature V4 of each request from
# the bytes on the wire (header or pre-signed), lists, answers ranges and If-Match, and makes faults on demand.
package Store;
use strict;
use warnings;
use Digest::SHA qw(sha256_hex hmac_sha256 hmac_sha256_hex);
use Fcntl qw(:flock SEEK_SET);
use IO::Select;
use IO::Socket::INET;
use IPC::Open2 qw(open2);
use POSIX qw(strftime);
use Time::HiRes qw(sleep time);

our ($ID, $SECRET) = ('AKIATESTTESTTEST', 'te/st+Secret=Key');

# Starts a server over $dir: $dir/BUCKET/KEY. Options: token (session token that is demanded), page (keys in a page of a
# listing), latency (seconds before each answer), secret. Buckets `public` and `web` want no signature.
sub new_at {
    my ($class, $dir, %o) = @_;
    my $listen = listener();
    my $self = bless { dir => $dir, port => $listen->sockport, page => 1000, latency => 0, secret => $SECRET, %o }, $class;
    my $pid = fork // die;
    if (!$pid) {
        $SIG{CHLD} = 'IGNORE';
        $SIG{TERM} = 'DEFAULT';
        open STDOUT, '>', '/dev/null';
        while (1) {
            my $c = $listen->accept or next;
            next if fork;
            close $listen;
            $c->autoflush(1);
            eval { $self->serve($c) };
            POSIX::_exit(0);
        }
    }
    $self->{pid} = $pid;
    $self->faults('');
    return $self;
}
# The same behind TLS, one connection at a time: openssl s_server takes the TLS off, and gets the bytes from a port that is
# open all the time.
sub tls {
    my ($class, $dir, $cert, $key) = @_;
    my $listen = listener();
    my $self = bless { dir => $dir, port => $listen->sockport, page => 1000, latency => 0, secret => $SECRET, group => 1 }, $class;
    $self->{pid} = fork // die;
    if (!$self->{pid}) {
        setpgrp;
        open STDERR, '>', '/dev/null';
        while (my $c = $listen->accept) {
            my $port = listener()->sockport; # closed again
            my $openssl = open2(my $in, my $out, qw(openssl s_server -quiet -naccept 1 -accept), "127.0.0.1:$port", '-cert', $cert, '-key', $key);
            my $to;
            sleep 0.02 until $to = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
            my $pump = fork // die;
            if (!$pump) { pump($c, $to); POSIX::_exit(0); }
            close $c;
            close $to;
            $out->autoflush(1);
            eval { $self->serve($out, $in) };
            close $out;
            close $in;
            kill 'TERM', $openssl;
            waitpid $_, 0 for $openssl, $pump;
        }
    }
    $self->faults('');
    return $self;
}
sub listener { return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64, ReuseAddr => 1) // die "listen: $!"; }
# Copies bytes both ways until one side ends.
sub pump {
    my ($x, $y) = @_;
    my %other = ($x->fileno => $y, $y->fileno => $x);
    my $both = IO::Select->new($x, $y);
    while (my @ready = $both->can_read) {
        for my $from (@ready) {
            my $n = sysread $from, my $bytes, 65536;
            return if !$n;
            $other{$from->fileno}->print($bytes) or return;
        }
    }
}
sub DESTROY { my ($s) = @_; kill 'TERM', ($s->{group} ? -$s->{pid} : $s->{pid}) if $s->{pid} && $s->{pid} != $$; }
sub url { my ($s) = @_; return "http://127.0.0.1:$s->{port}"; }
sub env {
    my ($s) = @_;
    return (AWS_ENDPOINT_URL => $s->url, AWS_ACCESS_KEY_ID => $ID, AWS_SECRET_ACCESS_KEY => $SECRET, AWS_REGION => 'eu-test-1');
}

# Faults: lines "PATTERN COUNT WHAT [ARGUMENT]"; the first line whose pattern matches the target and whose count is not used
# up holds. Sets them, and forgets the requests so far.
sub faults {
    my ($s, @lines) = @_;
    put("$s->{dir}/.faults", join '', map { "$_\n" } grep { $_ ne '' } @lines);
    put("$s->{dir}/.log", '');
    unlink glob "$s->{dir}/.used-*";
}
# What was asked for since, a line a request: method, target, range, status.
sub log { my ($s) = @_; open my $h, '<', "$s->{dir}/.log" or return; my @l = <$h>; chomp @l; return @l; }
sub put { my ($f, $t) = @_; open my $h, '>:raw', $f or die "$f: $!"; print $h $t; close $h or die; }

sub enc { my ($s, $slash) = @_; $s =~ s/([^A-Za-z0-9_.~\/-])/sprintf '%%%02X', ord $1/ge; $s =~ s/\//%2F/g if !$slash; return $s; }
sub dec { my ($s) = @_; $s =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge; return $s; }
sub esc { my ($s) = @_; my %e = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;'); $s =~ s/([&<>"])/$e{$1}/g; return $s; }

sub signature {
    my ($secret, $date, $scope, $canonical) = @_;
    my ($day, $region, $service) = split m{/}, $scope;
    my $key = hmac_sha256('aws4_request', hmac_sha256($service, hmac_sha256($region, hmac_sha256($day, "AWS4$secret"))));
    return hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256', $date, $scope, sha256_hex($canonical)), $key);
}
sub query_pairs {
    my ($query) = @_;
    return map { my ($k, $v) = split /=/, $_, 2; enc(dec($k)) . '=' . enc(dec($v // '')) } grep { $_ ne '' } split /&/, $query // '';
}
# A pre-signed URL that lasts for $seconds from $from on.
sub presign {
    my ($s, $bucket, $key, $seconds, $from) = @_;
    my $date = strftime '%Y%m%dT%H%M%SZ', gmtime($from // time);
    my $scope = substr($date, 0, 8) . '/eu-test-1/s3/aws4_request';
    my $path = '/' . enc($bucket) . '/' . enc($key, 1);
    my $query = join '&', sort 'X-Amz-Algorithm=AWS4-HMAC-SHA256', 'X-Amz-Credential=' . enc("$ID/$scope"), "X-Amz-Date=$date",
        "X-Amz-Expires=$seconds", 'X-Amz-SignedHeaders=host';
    my $canonical = join "\n", 'GET', $path, $query, "host:127.0.0.1:$s->{port}\n", 'host', 'UNSIGNED-PAYLOAD';
    return $s->url . "$path?$query&X-Amz-Signature=" . signature($s->{secret}, $date, $scope, $canonical);
}

# '' or the code of what is wrong with a request's signature.
sub check {
    my ($s, $method, $target, $h) = @_;
    my ($path, $query) = split /\?/, $target, 2;
    return '' if $path =~ m{^/(public|web)(/|$)};
    my ($date, $cred, $signed, $got, $payload, @pairs);
    if (($query // '') =~ /X-Amz-Signature=([0-9a-f]{64})/) {
        $got = $1;
        @pairs = sort grep { !/^X-Amz-Signature=/ } query_pairs($query);
        my %q = map { map { dec($_) } split /=/, $_, 2 } @pairs;
        ($date, $cred, $signed, $payload) = (@q{qw(X-Amz-Date X-Amz-Credential X-Amz-SignedHeaders)}, 'UNSIGNED-PAYLOAD');
        my $now = strftime '%Y%m%dT%H%M%SZ', gmtime(time - $q{'X-Amz-Expires'});
        return 'AccessDenied' if $date lt $now;
    } else {
        my $auth = $h->{authorization} // return 'AccessDenied';
        $auth =~ m{^AWS4-HMAC-SHA256 Credential=(\S+), ?SignedHeaders=(\S+), ?Signature=([0-9a-f]{64})$} or return 'AuthorizationHeaderMalformed';
        ($cred, $signed, $got) = ($1, $2, $3);
        ($date, $payload) = ($h->{'x-amz-date'} // '', $h->{'x-amz-content-sha256'} // return 'MissingSecurityHeader');
        @pairs = sort { [split /=/, $a, 2]->[0] cmp [split /=/, $b, 2]->[0] || $a cmp $b } query_pairs($query);
        my %is = map { $_ => 1 } split /;/, $signed;
        return 'UnsignedHeader' if grep { ($_ eq 'host' || /^x-amz-/) && !$is{$_} } keys %$h;
        return 'InvalidToken' if ($h->{'x-amz-security-token'} // '') ne ($s->{token} // '');
        return 'RequestTimeTooSkewed' if abs(POSIX::mktime(gmtime) - POSIX::mktime(date_parts($date))) > 900;
    }
    my ($id, $scope) = $cred =~ m{^([^/]+)/(\d{8}/[^/]+/s3/aws4_request)$} or return 'AuthorizationHeaderMalformed';
    return 'InvalidAccessKeyId' if $id ne $ID;
    my $headers = join '', map { my $v = $h->{$_} // ''; $v =~ s/\s+/ /g; "$_:$v\n" } split /;/, $signed;
    # S3 encodes the key once, and does not tidy it.
    my $canonical = join "\n", $method, enc(dec($path), 1), join('&', @pairs), $headers, $signed, $payload;
    return signature($s->{secret}, $date, $scope, $canonical) eq $got && enc(dec($path), 1) eq $path ? '' : 'SignatureDoesNotMatch';
}
sub date_parts { my @p = $_[0] =~ /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/ or return (0) x 6; return ($p[5], $p[4], $p[3], $p[2], $p[1] - 1, $p[0] - 1900); }

sub fault {
    my ($s, $target) = @_;
    open my $h, '<', "$s->{dir}/.faults" or return ('');
    my $i = 0;
    for (<$h>) {
        my ($pattern, $count, @what) = split;
        $i++;
        next if $target !~ /$pattern/;
        open my $used, '+>>', "$s->{dir}/.used-$i" or die;
        flock $used, LOCK_EX;
        next if -s $used >= $count;
        syswrite $used, 'x';
        return @what;
    }
    return ('');
}

sub answer {
    my ($s, $c, $status, $body, @headers) = @_;
    $s->note($status);
    print $c "HTTP/1.1 $status X\r\nContent-Length: " . length($body) . "\r\n" . join('', map { "$_\r\n" } @headers) . "\r\n" . ($s->{head} ? '' : $body);
}
sub failed { my ($s, $c, $status, $code, @headers) = @_; answer($s, $c, $status, "<?xml version=\"1.0\"?>\n<Error><Code>$code</Code><Message>no &lt; $ID</Message></Error>", @headers); }

sub serve {
    my ($s, $c, $in) = @_;
    $in //= $c;
    while (defined(my $line = <$in>)) {
        my ($method, $target) = $line =~ m{^(GET|HEAD) (\S+) HTTP/1\.[01]\r$} or return;
        my %h;
        while (defined(my $l = <$in>)) {
            $l =~ s/\r?\n$//;
            last if $l eq '';
            my ($k, $v) = $l =~ /^([^:]+):\s*(.*?)\s*$/ or return;
            $h{lc $k} = $v;
        }
        $s->{head} = $method eq 'HEAD';
        sleep $s->{latency} if $s->{latency};
        $s->{asked} = "$method $target " . ($h{range} // '-');
        my $open = eval { $s->one($c, $method, $target, \%h) };
        $s->note(0);
        return if !$open;
    }
}

# Notes a request in the log, once, before its answer goes out: who has the answer finds it there.
sub note {
    my ($s, $status) = @_;
    return if !defined $s->{asked};
    open my $log, '>>', "$s->{dir}/.log" or die;
    syswrite $log, "$s->{asked} $status\n";
    $s->{asked} = undef;
}

# Answers a request; false: the connection is to be closed.
sub one {
    my ($s, $c, $method, $target, $h) = @_;
    my ($what, $arg) = $s->fault($target);
    if ($what eq 'close' || $what eq 'raw') { $s->note(0); }
    return 0 if $what eq 'close';
    if ($what eq 'raw') { print $c pack 'H*', $arg; return 0; }
    my $wrong = $s->check($method, $target, $h);
    if ($wrong) { $s->failed($c, 403, $wrong); return 1; }
    if ($what =~ /^\d+$/) { $s->failed($c, $what, $what == 503 ? 'SlowDown' : 'Fault', $arg ? $arg =~ s/_/ /gr : ()); return 1; }
    my ($path, $query) = split /\?/, $target, 2;
    if (($query // '') =~ /list-type=2/) { $s->list($c, dec($path), $query, $what, $arg); return 1; }
    my $file = "$s->{dir}/" . dec($path);
    if ($what =~ /^swap/) { my $new = "$s->{dir}/$arg"; system('cp', $new, $file); utime 1, 1, $file; }
    if ($file =~ m{/\.\.?(/|$)} || !-f $file) { $s->failed($c, 404, 'NoSuchKey'); return 1; }
    return $s->object($c, $file, $h, $what, $arg);
}

sub etag {
    my ($f, $weak) = @_;
    my $of = -s $f < 4 << 20 ? Digest::SHA->new(256)->addfile($f, 'b')->hexdigest : sha256_hex(join ' ', (stat $f)[7, 9]);
    return ($weak ? 'W/' : '') . '"' . substr($of, 0, 32) . '"';
}

sub object {
    my ($s, $c, $file, $h, $what, $arg) = @_;
    open my $f, '<:raw', $file or die;
    my $size = -s $f;
    my ($from, $to, $status) = (0, $size - 1, 200);
    ($from, $to, $status) = ($1, $2 eq '' ? $size - 1 : $2, 206) if ($h->{range} // '') =~ /^bytes=(\d+)-(\d*)$/ && $what ne 'whole';
    $to = $size - 1 if $to >= $size;
    if ($status == 206 && $from >= $size) { $s->failed($c, 416, 'InvalidRange', "Content-Range: bytes */$size"); return 1; }
    my $etag = etag($file, $what eq 'weak');
    if ($h->{'if-match'} && $h->{'if-match'} ne $etag && $what !~ /quiet|no-etag/) { $s->failed($c, 412, 'PreconditionFailed'); return 1; }
    my $n = $to - $from + 1;
    my $shown = $what eq 'shift' ? $from + 1 : $from;
    my @head = ("HTTP/1.1 $status X", 'Content-Length: ' . ($what eq 'more' ? $n + 7 : $n), 'Last-Modified: ' . strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime((stat $f)[9])));
    push @head, "ETag: $etag" if $what !~ /no-etag/;
    push @head, "Content-Range: bytes $shown-$to/$size" if $status == 206;
    $s->note($status);
    print $c join("\r\n", @head) . "\r\n\r\n";
    return 1 if $s->{head};
    my $cut = $what eq 'cut' || $what eq 'stall' ? $arg : $n;
    seek $f, $from, SEEK_SET;
    while ($n > 0 && $cut > 0) {
        my $step = $what eq 'slow' ? 1000 : 1 << 20;
        $step = $cut if $step > $cut;
        read $f, my $buf, $step < $n ? $step : $n or last;
        print $c $buf or return 0;
        sleep $arg if $what eq 'slow';
        $n -= length $buf;
        $cut -= length $buf;
    }
    sleep 20 if $what eq 'stall';
    print $c 'x' x 7 if $what eq 'more';
    return $what ne 'cut';
}

sub list {
    my ($s, $c, $path, $query, $what, $arg) = @_;
    my ($bucket) = $path =~ m{^/([^/]+)};
    my %q = map { my ($k, $v) = split /=/, $_, 2; (dec($k), dec($v // '')) } split /&/, $query;
    if (!-d "$s->{dir}/$bucket") { $s->failed($c, 404, 'NoSuchBucket'); return; }
    my (%seen, @keys);
    open my $find, '-|', 'find', "$s->{dir}/$bucket", '-type', 'f', '-print0' or die;
    local $/ = "\0";
    for (map { chomp; s{^\Q$s->{dir}/$bucket/\E}{}r } <$find>) {
        next if index($_, $q{prefix}) != 0;
        my $rest = substr $_, length $q{prefix};
        next if $q{delimiter} && $rest =~ /\Q$q{delimiter}\E/;
        push @keys, $_;
    }
    @keys = sort @keys;
    @keys = grep { $_ gt $q{'continuation-token'} } @keys if defined $q{'continuation-token'};
    my $more = @keys > $s->{page};
    splice @keys, $s->{page} if $more;
    my $url = ($q{'encoding-type'} // '') eq 'url';
    my $xml = '<?xml version="1.0" encoding="UTF-8"?>' . "\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>$bucket</Name>"
        . ($url ? '<EncodingType>url</EncodingType>' : '') . '<IsTruncated>' . ($more ? 'true' : 'false') . '</IsTruncated>'
        . ($more ? '<NextContinuationToken>' . esc($keys[-1]) . '</NextContinuationToken>' : '');
    for (@keys) {
        my $f = "$s->{dir}/$bucket/$_";
        my $time = strftime '%Y-%m-%dT%H:%M:%S.000Z', gmtime((stat $f)[9]);
        $xml .= '<Contents><Key>' . ($url ? enc($_, 1) =~ s/%20/+/gr : esc($_)) . "</Key><LastModified>$time</LastModified><ETag>" . esc(etag($f))
            . '</ETag><Size>' . (-s $f) . '</Size><StorageClass>STANDARD</StorageClass></Contents>';
    }
    $xml .= '</ListBucketResult>';
    $xml = substr $xml, 0, $arg if $what eq 'cut';
    $s->answer($c, 200, $xml, 'Content-Type: application/xml');
}
1;
